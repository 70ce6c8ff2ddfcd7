"""One shift for many numbers, so that their weighted sum is what it should be."""

import numpy as np

Bound = float | np.ndarray


def shifted(values: np.ndarray, sizes: np.ndarray, total: float, low: Bound, high: Bound) -> np.ndarray:
    """clip(values + t, low, high), all (n,), with the largest t for which sum sizes * that is no more than `total`, to
    rounding; everything at `low` if none is. The sum never falls as t rises, so bisection finds t."""
    below, above = (low - values).min(), (high - values).max()  # everything at its lower, its upper bound
    while below < (middle := (below + above) / 2) < above:
        if sizes @ np.minimum(np.maximum(values + middle, low), high) <= total:  # np.clip takes four times as long
            below = middle
        else:
            above = middle
    return np.clip(values + below, low, high)
