"""SPDY's outer search (Frantar and Alistarh, ICML 2022): errors of units are only comparable up to a factor each, so
factors are searched whose solution has the least loss of the whole model on the calibration set.

First `tries` vectors of U(0, 1); then around the best one a share of the units is drawn anew, a tenth of them to one,
and each share is left behind after `misses` tries in a row without a lower loss.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pruning.budget.knapsack import Rows, Solution

SHARE = 0.1  # of the units that change first


@dataclass(frozen=True)
class Searched:
    """The best factors (units,), what they lead to and its loss; how many solutions had their loss taken."""

    factors: np.ndarray
    solution: Solution
    loss: float
    evaluated: int


def search_coefficients(
    errors: Rows,
    solved: Callable[[Rows], Solution],
    loss: Callable[[np.ndarray], float],
    seed: int = 0,
    tries: int = 100,
    misses: int = 100,
    most: int = 0,
) -> Searched:
    """`solved(errors)` within whatever budget, as `solve` with one; `loss(choices)` of a whole model, (units,) as
    Solution has them; equal choices are asked for once. The plain errors (factors of 1) are looked at first, so what is
    found is never worse than they. `most`: after so many losses it ends, 0: with the search. Same seed, same result."""
    draw, known = np.random.default_rng(seed), dict[bytes, float]()

    def spent() -> bool:
        return bool(most) and len(known) >= most

    def tried(factors: np.ndarray) -> tuple[float, Solution]:
        found = solved([row * c for row, c in zip(errors, factors, strict=True)])
        key = found.choices.tobytes()
        if key not in known:
            known[key] = loss(found.choices)
        return known[key], found

    units = len(errors)
    best = np.ones(units)
    least, solution = tried(best)
    for _ in range(tries):
        if spent():
            break
        factors = draw.uniform(0, 1, units)
        found = tried(factors)
        if found[0] < least:
            best, (least, solution) = factors, found
    count = max(1, round(SHARE * units))
    while count and not spent():
        missed = 0
        while missed < misses and not spent():
            factors = best.copy()
            factors[draw.choice(units, count, replace=False)] = draw.uniform(0, 1, count)
            found = tried(factors)
            missed += 1
            if found[0] < least:
                best, (least, solution), missed = factors, found, 0
        count = count - 1 if count <= 10 else int(count * 0.9)
    plain = float(sum(row[j] for row, j in zip(errors, solution.choices, strict=True)))
    return Searched(best, Solution(solution.choices, plain, solution.cost, 0.0), least, len(known))
