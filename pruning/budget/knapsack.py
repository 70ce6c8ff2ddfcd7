"""The multiple-choice knapsack: of every unit one choice, the least sum of errors within one budget.

    min sum_l E_l,j(l)   subject to   sum_l t_l,j(l) <= T

Dynamic programming over B equal buckets of T (SPDY, Frantar and Alistarh, ICML 2022), every cost rounded UP to whole
buckets, so that the budget is never exceeded; what that gives away is at most L buckets. Choices that cost as much as
another of no more error are never looked at. The Lagrangian bound max_lambda sum_l min_j (E + lambda t) - lambda T says
how far from the best this can be.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np

from workloads.errors import UserError

PER_UNIT = 1000  # buckets a unit: what rounding up gives away is then about 1 / 2000 of the budget
LEAST = 20_000  # buckets
ENOUGH = 0.001  # above the bound: the multiplier's choices are taken as they are, as those of many units can be
STEPS = 200  # halvings of the multiplier's range
NOTHING = 1e-12  # of the budget: costs that differ by less are the same

Rows = Sequence[np.ndarray]


@dataclass(frozen=True)
class Solution:
    """choices (units,): the places of the chosen in each row. `error` and `cost` are their sums; no choice within the
    budget has a sum of errors below `bound`."""

    choices: np.ndarray
    error: float
    cost: float
    bound: float

    @property
    def gap(self) -> float:
        """How much of its error could be missing to the best, at most."""
        return (self.error - self.bound) / self.error if self.error > self.bound and self.error else 0.0


def solve(errors: Rows, costs: Rows, budget: float, buckets: int = 0) -> Solution:
    """errors, costs: a row (choices,) for every unit, of any lengths; NaN in `costs` where there is no such choice.
    `buckets` 0: enough that rounding hardly matters, and none where the multiplier's choices are within ENOUGH of the
    bound. Raises UserError where even the cheapest choices exceed the
    budget, for no units, and for errors and costs below 0."""
    fronts = [front(e, t) for e, t in zip(errors, costs, strict=True)]
    if not fronts:
        raise UserError("there are no units to choose for")
    least = sum(float(t[0]) for _, _, t in fronts)
    if least > budget * (1 + NOTHING):
        raise UserError(f"the cheapest choices cost {least:g} together, the budget is {budget:g}; raise it")
    bound, multiplier = lagrangian(fronts, budget)
    best = _by_multiplier(fronts, budget, multiplier)
    if buckets or best is None or _sums(fronts, best)[0] > bound * (1 + ENOUGH):
        found = _by_buckets(fronts, budget, buckets or max(LEAST, PER_UNIT * len(fronts)))
        best = min((places for places in (found, best) if places is not None), key=lambda places: _sums(fronts, places))
    error, cost = _sums(fronts, best)
    choices = np.array([int(where[j]) for (where, _, _), j in zip(fronts, best, strict=True)])
    return Solution(choices, error, cost, min(bound, error))


def front(errors: np.ndarray, costs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(places, errors, costs) of the choices that no other beats in both, by rising cost; of equal ones the first.
    Raises UserError for a row without choices, and numbers below 0."""
    known = ~np.isnan(costs)
    if not known.any():
        raise UserError("a unit has no choice that the target can run")
    if (costs[known] < 0).any() or not (errors[known] >= 0).all():
        raise UserError("errors and costs are numbers of 0 or more")
    places = np.flatnonzero(known)
    places = places[np.lexsort((places, errors[places], costs[places]))]
    least = np.minimum.accumulate(errors[places])
    better = np.r_[True, errors[places][1:] < least[:-1]]
    places = places[better]
    return places, errors[places].astype(np.float64), costs[places].astype(np.float64)


def lagrangian(fronts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], budget: float) -> tuple[float, float]:
    """(the highest lower bound of a sum of errors within the budget, the multiplier that gives it): the dual function
    is concave, so its range is halved by the sign of what the choices cost beyond the budget."""
    low, high = 0.0, 1.0
    while _chosen(fronts, high)[1] > budget and high < 1e300:
        high *= 4
    if _chosen(fronts, 0.0)[1] <= budget:
        return _chosen(fronts, 0.0)[2], 0.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if _chosen(fronts, middle)[1] > budget:
            low = middle
        else:
            high = middle
    values = {multiplier: _chosen(fronts, multiplier)[2] - multiplier * budget for multiplier in (low, high)}
    return max(0.0, *values.values()), high


def _chosen(fronts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], multiplier: float):
    """(places, sum of costs, sum of E + multiplier t) of the cheapest under a price of cost."""
    places, cost, value = [], 0.0, 0.0
    for _, errors, costs in fronts:
        priced = errors + multiplier * costs
        j = int(priced.argmin())
        places.append(j)
        cost += float(costs[j])
        value += float(priced[j])
    return places, cost, value


def _by_multiplier(fronts, budget: float, multiplier: float) -> list[int] | None:
    """The choices at the bound's multiplier, then whatever still fits that saves most error for its cost; near the best
    where units are many."""
    places, cost, _ = _chosen(fronts, multiplier)
    if cost > budget:
        places = [0] * len(fronts)
        cost = sum(float(costs[0]) for _, _, costs in fronts)
    if cost > budget * (1 + NOTHING):
        return None
    left = budget - cost
    while True:
        best, gain = None, 0.0
        for n, (_, errors, costs) in enumerate(fronts):
            saved, more = errors[places[n]] - errors, costs - costs[places[n]]
            fits = (more <= left) & (saved > 0)
            if fits.any():
                rate = np.where(fits, saved / np.maximum(more, NOTHING * max(budget, 1e-300)), -1.0)
                j = int(rate.argmax())
                if rate[j] > gain:
                    best, gain = (n, j), float(rate[j])
        if best is None:
            return places
        n, j = best
        left -= float(fronts[n][2][j] - fronts[n][2][places[n]])
        places[n] = j


def _by_buckets(fronts, budget: float, buckets: int) -> list[int] | None:
    """None where the cheapest choices, rounded up, do not fit."""
    if budget <= 0:
        return [0] * len(fronts)
    width = budget / buckets
    starts = np.cumsum([0, *(len(costs) for _, _, costs in fronts)])
    steps = np.concatenate([np.ceil(costs / width - NOTHING * buckets) for _, _, costs in fronts])
    steps = np.minimum(steps, buckets + 1).astype(np.int64)
    errors = np.concatenate([errors for _, errors, _ in fronts])
    found = _programme(errors, steps, starts, buckets)
    return None if found[0] < 0 else [int(j) for j in found]


@numba.njit(cache=True)
def _programme(errors, steps, starts, buckets):  # pragma: no cover (compiled)
    units = len(starts) - 1
    best = np.full(buckets + 1, np.inf)
    best[0] = 0.0
    taken = np.zeros((units, buckets + 1), dtype=np.uint16)
    top = 0  # no bucket above it is reached
    for n in range(units):
        following = np.full(buckets + 1, np.inf)
        reach = 0
        for j in range(starts[n], starts[n + 1]):
            step, error = steps[j], errors[j]
            last = min(top, buckets - step)
            for b in range(last + 1):
                value = best[b] + error
                if value < following[b + step]:
                    following[b + step] = value
                    taken[n, b + step] = j - starts[n]
            if last >= 0:
                reach = max(reach, last + step)
        best, top = following, reach
    chosen = np.full(units, -1, dtype=np.int64)
    place = int(np.argmin(best))
    if not np.isfinite(best[place]):
        return chosen
    for n in range(units - 1, -1, -1):
        j = int(taken[n, place])
        chosen[n] = j
        place -= steps[starts[n] + j]
    return chosen


def _sums(fronts, places: Sequence[int]) -> tuple[float, float]:
    """(error, cost)"""
    error = sum(float(errors[j]) for (_, errors, _), j in zip(fronts, places, strict=True))
    return error, sum(float(costs[j]) for (_, _, costs), j in zip(fronts, places, strict=True))
