"""Small rules that the command line and study files share."""

from workloads.errors import UserError
from workloads.patterns import parse_pattern


def density_of(pattern: str, density: float | None) -> float:
    """The density of a generator pattern; N:M fixes it. Raises UserError if they contradict each other."""
    nofm = parse_pattern(pattern) if ":" in pattern else None
    if density is not None and not 0 < density <= 1:
        raise UserError(f"density is a fraction in (0, 1], not {density}; 0.5 keeps half of the weights")
    if nofm is None:
        return 0.5 if density is None else density
    if density is not None and abs(density - nofm.n / nofm.m) > 1e-9:
        raise UserError(f"pattern {nofm} keeps exactly {nofm.n / nofm.m}, not {density}; leave `density` out")
    return nofm.n / nofm.m
