"""Expectations that have no short form: drawn from binomials, or counted place by place."""

import numpy as np

DRAWS = 20_000
PACKINGS = 40


def paired_largest(n: int, p: float, units: int, seed: int) -> tuple[float, float]:
    """Mean and deviation of the slowest pair: 2 x units of max(1, Binomial(n, p)), densest paired with sparsest."""
    counts = np.random.default_rng(seed).binomial(n, p, (DRAWS, 2 * units))
    ordered = np.sort(np.maximum(counts, 1), axis=1)
    slowest = (ordered + ordered[:, ::-1])[:, :units].max(axis=1)
    return float(slowest.mean()), float(slowest.std())


def folds_drawn(rows: int, cols: int, density: float, multipliers: int, seed: int) -> tuple[float, float]:
    """Mean and deviation of the folds of `rows` rows of Binomial(cols, density), packed whole and in order."""
    rng = np.random.default_rng(seed)
    folds = []
    for _ in range(PACKINGS):
        used, count = multipliers + 1, 0
        for kept in rng.binomial(cols, density, rows).tolist():
            if used + kept > multipliers:
                used, count = 0, count + 1
            used += kept
        folds.append(count)
    return float(np.mean(folds)), float(np.std(folds))


def eie_entries_pmf(places: int, density: float, run_places: int = 16) -> np.ndarray:
    """Distribution of a column's entries: kept ones of `places` weights, and a padding zero per 16 zeros before one."""
    chance = np.zeros((places + 1, 2 * places + 1))  # (zeros since the last kept weight, entries)
    chance[0, 0] = 1.0
    for _ in range(places):
        after = np.zeros_like(chance)
        after[1:] = chance[:-1] * (1 - density)
        for zeros in range(places):
            entries = 1 + zeros // run_places
            after[0, entries:] += density * chance[zeros, :-entries]
        chance = after
    pmf = chance.sum(axis=0)
    return pmf / pmf.sum()
