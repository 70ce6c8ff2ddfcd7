"""Cycle models of sparse accelerators: a mask goes in, cycles come out. Never loads torch."""
