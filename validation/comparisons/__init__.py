"""What a model is compared with, one kind of evidence a file."""
