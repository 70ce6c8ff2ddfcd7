"""Slow, obvious programs of the designs: they move integers, and count every cycle and byte on their own."""
