"""Whole decoders on a GPU: a time for every operation of a step, steps, and generations of many steps."""
