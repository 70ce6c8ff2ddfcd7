"""What may be said of a speedup whose error is known: one rule for predictions, sums of them and figures."""

import numpy as np

FASTER, SLOWER, UNCLEAR = "faster", "slower", "not distinguishable"


def verdict(speedup: np.ndarray, error: np.ndarray) -> np.ndarray:
    """(n,) words from (n,) speedups and errors, both as shares of 1: the true speedup lies between speedup / (1 + e)
    and speedup x (1 + e).

    Faster or slower only where the whole band is; else not distinguishable. "" where there is no speedup.
    """
    found = np.full(speedup.shape, UNCLEAR, dtype=object)
    with np.errstate(invalid="ignore"):
        found[speedup > 1 + error] = FASTER
        found[speedup * (1 + error) < 1] = SLOWER
    found[~np.isfinite(speedup)] = ""
    return found
