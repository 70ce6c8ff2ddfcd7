"""FALCON's projection (Meng et al., AISTATS 2024): the weights to keep under a budget of non-zeros and one of FLOP
(or any cost of a non-zero that is one number a layer).

    max sum v_i z_i   subject to   sum z_i <= S,   sum f_i z_i <= F,   z_i in {0, 1}

The linear relaxation's dual is D(l) = S w(l) + F l + sum max(v - l f - w(l), 0) with w(l) = max((S + 1)-th largest of
v - l f, 0), convex in l: golden-section search. Weights are then taken by v - l f, highest first, as long as both
budgets hold and it is positive; what is left of the budgets goes to the best of the others that fit (ours: upstream
leaves it).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

GOLDEN = (math.sqrt(5) - 1) / 2
NEAR = 1e-9  # of the multiplier's range


@dataclass(frozen=True)
class Projection:
    """keep: of every layer (weights,) bool. `value` is what is kept; no choice within the budgets keeps more than
    `bound`."""

    keep: list[np.ndarray]
    value: float
    bound: float
    count: int
    cost: float


def project(values: Sequence[np.ndarray], costs: Sequence[float], most: int, budget: float) -> Projection:
    """values: of every layer (weights,), 0 or more, such as squared weights over the inverse Hessian's diagonal;
    costs: of one non-zero of each layer; at most `most` stay, of at most `budget` together. O(p log p) each step."""
    value = np.concatenate([np.asarray(row, np.float64).ravel() for row in values])
    cost = np.repeat(np.asarray(costs, np.float64), [np.size(row) for row in values])
    assert (value >= 0).all()
    assert (cost >= 0).all()
    most = min(most, len(value))

    def dual(multiplier: float) -> float:
        reduced = value - multiplier * cost
        order = np.partition(reduced, len(reduced) - most - 1) if most < len(reduced) else None
        level = max(float(order[len(reduced) - most - 1]), 0.0) if order is not None else 0.0
        return most * level + budget * multiplier + float(np.maximum(reduced - level, 0).sum())

    highest = float(np.max(value[cost > 0] / cost[cost > 0], initial=0.0))
    multiplier = _least(dual, highest)
    order = np.argsort(-(value - multiplier * cost), kind="stable")
    keep = _fill(value, cost, order, most, budget)
    other = _fill(value, cost, np.argsort(-value, kind="stable"), most, budget)
    if value[other].sum() > value[keep].sum():
        keep = other
    split = np.split(keep, np.cumsum([np.size(row) for row in values])[:-1])
    return Projection(
        [part.reshape(np.shape(row)) for part, row in zip(split, values, strict=True)],
        float(value[keep].sum()), dual(multiplier), int(keep.sum()), float(cost[keep].sum()),
    )  # fmt: skip


def _least(function: Callable[[float], float], high: float) -> float:
    """Where a convex function on [0, high] is least."""
    low, top = 0.0, high
    a, b = top - GOLDEN * (top - low), low + GOLDEN * (top - low)
    of_a, of_b = function(a), function(b)
    while top - low > NEAR * high and a < b:
        if of_a <= of_b:
            top, b, of_b = b, a, of_a
            a = top - GOLDEN * (top - low)
            of_a = function(a)
        else:
            low, a, of_a = a, b, of_b
            b = low + GOLDEN * (top - low)
            of_b = function(b)
    return min((low, (low + top) / 2, top, 0.0), key=function)


def _fill(value: np.ndarray, cost: np.ndarray, order: np.ndarray, most: int, budget: float) -> np.ndarray:
    """Takes items in an order, leaving out those that do not fit; whole runs at once where all of them fit."""
    keep = np.zeros(len(value), dtype=bool)
    left = budget
    queue = order[value[order] > 0]
    while len(queue) and most:
        spent = np.cumsum(cost[queue])
        fit = min(int(np.searchsorted(spent, left, side="right")), most)
        keep[queue[:fit]] = True
        left -= float(spent[fit - 1]) if fit else 0.0
        most -= fit
        rest = queue[fit:]
        queue = rest[cost[rest] <= left]
    return keep
