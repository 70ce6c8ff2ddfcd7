"""A whole decoder from its config: dimensions, every operation it executes with FLOP and bytes, the memory it takes."""
