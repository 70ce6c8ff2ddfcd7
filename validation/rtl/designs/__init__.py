"""How a group of a mask becomes tiles of a design, what the model says of it, and what may be left over."""
