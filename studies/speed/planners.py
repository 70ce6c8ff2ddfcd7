"""Ways to spend a budget: each gives, for what the units together may cost, what every unit gets.

    knapsack   the least sum of errors (pruning/budget/knapsack.py)
    even       the same for every unit: of the sparsities, patterns and bits that cost no more, the one of least error
    searched   the knapsack with a factor on the errors of each unit, found by SPDY's search (coefficients.py)

Errors of single matrices do not add up where much goes, so none of the three is the best everywhere."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pruning.budget.knapsack import Rows, solve
from workloads.choices import UNTOUCHED, Choice
from workloads.cost_table import CostTable
from workloads.errors import UserError

KNAPSACK, EVEN, SEARCHED = "knapsack", "even", "searched"
HALVINGS = 7  # of a step of the ladder, towards the least even sparsity within a budget


@dataclass(frozen=True)
class Planned:
    """choices (units,). `error`: sum of the table's, between two levels taken as linear; `cost` likewise summed, fixed
    part left out; no plan of the table within the budget has a sum of errors below `bound`."""

    choices: tuple[Choice, ...]
    error: float
    cost: float
    bound: float

    @property
    def gap(self) -> float:
        """How much of its error could be missing to the least, at most."""
        return (self.error - self.bound) / self.error if self.error > self.bound and self.error else 0.0

    @property
    def changes(self) -> bool:
        return any(choice != UNTOUCHED for choice in self.choices)


Planner = Callable[[float], Planned]


def knapsack(table: CostTable, errors: Rows, factors: np.ndarray | None = None) -> Planner:
    """`factors` (units,) on the errors, by which it is solved; `Planned.error` is without them."""
    costs = list(table.costs)
    weighed = errors if factors is None else [row * c for row, c in zip(errors, factors, strict=True)]

    def plan(budget: float) -> Planned:
        found = solve(weighed, costs, budget)
        bound = found.bound if factors is None else solve(errors, costs, budget).bound
        error = float(sum(row[j] for row, j in zip(errors, found.choices, strict=True)))
        return Planned(tuple(table.choices[int(j)] for j in found.choices), error, found.cost, min(bound, error))

    return plan


def even(table: CostTable, errors: Rows, costs_of: Callable[[Choice], np.ndarray]) -> Planner:
    """`costs_of(choice)` (units,) of any sparsity, NaN where a unit cannot have it; such a unit stays as it is."""
    matrix = np.array(errors)

    def plan(budget: float) -> Planned:
        found = [one for one in _least(table, budget, costs_of) if one is not None]
        if not found:
            raise UserError(f"nothing that is the same everywhere costs {budget:g} {table.measure} or less")
        bound = solve(errors, list(table.costs), budget).bound
        made = [_planned(table, matrix, choice, costs_of(choice), bound) for choice in found]
        return min(made, key=lambda one: one.error)

    return plan


def _least(table: CostTable, budget: float, costs_of: Callable[[Choice], np.ndarray]) -> Iterator[Choice | None]:
    """Of every number of bits the least sparsity within the budget, and of every pattern itself; None where there is
    none."""
    ladders: dict[int | None, list[int]] = {}
    for j, choice in enumerate(table.choices):
        if choice.pattern is not None:
            yield choice if _total(table, table.costs[:, j]) <= budget else None
        else:
            ladders.setdefault(choice.bits, []).append(j)
    for bits, places in ladders.items():
        places.sort(key=lambda j: table.choices[j].zeros)
        top = next((n for n, j in enumerate(places) if _total(table, table.costs[:, j]) <= budget), None)
        if top is None:
            yield None
            continue
        high = table.choices[places[top]]
        low = table.choices[places[top - 1]].zeros if top else high.zeros
        for _ in range(HALVINGS if top else 0):
            middle = Choice(round((low + high.zeros) / 2, 6), None, bits)
            if _total(table, costs_of(middle)) <= budget:
                high = middle
            else:
                low = middle.zeros
        yield high


def _total(table: CostTable, costs: np.ndarray) -> float:
    return float(np.where(np.isnan(costs), table.costs[:, 0], costs).sum())


def _planned(table: CostTable, errors: np.ndarray, choice: Choice, costs: np.ndarray, bound: float) -> Planned:
    can = ~np.isnan(costs)
    error = float(np.where(can, _errors_at(table.choices, errors, choice), errors[:, 0]).sum())
    chosen = tuple(choice if able else UNTOUCHED for able in can)
    return Planned(chosen, error, _total(table, costs), min(bound, error))


def _errors_at(choices: Sequence[Choice], errors: np.ndarray, choice: Choice) -> np.ndarray:
    """(units,)"""
    if choice in choices:
        return errors[:, list(choices).index(choice)]
    places = [j for j, one in enumerate(choices) if one.pattern is None and one.bits == choice.bits]
    places.sort(key=lambda j: choices[j].zeros)
    levels = [choices[j].zeros for j in places]
    return np.array([np.interp(choice.zeros, levels, row[places]) for row in errors])
