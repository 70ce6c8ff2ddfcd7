"""A report as a page, as text for other programs, in a terminal."""
