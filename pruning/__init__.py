"""A Hugging Face model goes in, masks (and on request a pruned checkpoint) come out."""
