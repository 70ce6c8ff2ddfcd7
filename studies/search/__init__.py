"""Machines and masks searched together: the table [search] of a study (docs/search.md)."""
