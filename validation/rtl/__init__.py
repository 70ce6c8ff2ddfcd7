"""The designs in RTL that runs, beside their cycle models."""
