"""Ways to spend budgets: each gives, for what the units together may cost by every table, what every unit gets.

    knapsack   the least sum of errors (pruning/budget/knapsack.py)
    even       the same for every unit: of the sparsities, patterns and bits that cost no more, the one of least error
    searched   the knapsack with a factor on the errors of each unit, found by SPDY's search (coefficients.py)

Errors of single matrices do not add up where much goes, so none of the three is the best everywhere."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pruning.budget.knapsack import Rows, Solution, solve
from pruning.budget.several import solve_several
from workloads.choices import UNTOUCHED, Choice
from workloads.cost_table import CostTable
from workloads.errors import UserError

KNAPSACK, EVEN, SEARCHED = "knapsack", "even", "searched"
HALVINGS = 7  # of a step of the ladder, towards the least even sparsity within a budget


@dataclass(frozen=True)
class Planned:
    """choices (units,). `error`: sum of the table's, between two levels taken as linear; `costs` of every table
    likewise summed, fixed parts left out; no plan of the tables within the budgets has a sum of errors below `bound`.
    """

    choices: tuple[Choice, ...]
    error: float
    costs: tuple[float, ...]
    bound: float

    @property
    def gap(self) -> float:
        """How much of its error could be missing to the least, at most."""
        return (self.error - self.bound) / self.error if self.error > self.bound and self.error else 0.0

    @property
    def changes(self) -> bool:
        return any(choice != UNTOUCHED for choice in self.choices)


Planner = Callable[[Sequence[float]], Planned]
CostsOf = Callable[[Choice], Sequence[np.ndarray]]


def solved(errors: Rows, tables: Sequence[CostTable], budgets: Sequence[float]) -> Solution:
    """By the knapsack, or for several budgets by HiGHS. Raises UserError where no choices fit."""
    if len(tables) == 1:
        return solve(errors, list(tables[0].costs), budgets[0])
    names = [f"{n + 1}. {table.measure}" for n, table in enumerate(tables)]
    costs = {name: list(table.costs) for name, table in zip(names, tables, strict=True)}
    return solve_several(errors, costs, dict(zip(names, budgets, strict=True)))


def knapsack(tables: Sequence[CostTable], errors: Rows, factors: np.ndarray | None = None) -> Planner:
    """Tables of the same units and choices. `factors` (units,) on the errors, by which it is solved; `Planned.error` is
    without them."""
    weighed = errors if factors is None else [row * c for row, c in zip(errors, factors, strict=True)]

    def plan(budgets: Sequence[float]) -> Planned:
        found = solved(weighed, tables, budgets)
        bound = found.bound if factors is None else solved(errors, tables, budgets).bound
        error = float(sum(row[j] for row, j in zip(errors, found.choices, strict=True)))
        spent = tuple(float(sum(row[j] for row, j in zip(table.costs, found.choices, strict=True))) for table in tables)
        return Planned(tuple(tables[0].choices[int(j)] for j in found.choices), error, spent, min(bound, error))

    return plan


def even(tables: Sequence[CostTable], errors: Rows, costs_of: CostsOf) -> Planner:
    """`costs_of(choice)` by every table (units,) of any sparsity, NaN where a unit cannot have it; such a unit stays as
    it is."""
    matrix, choices = np.array(errors), tables[0].choices
    dense = [table.costs[:, 0] for table in tables]

    def totals(choice: Choice) -> tuple[tuple[float, ...], np.ndarray]:
        """(what all units cost by every table, which of them can have the choice)"""
        costs = costs_of(choice)
        can = np.array(~np.isnan(costs).any(axis=0))
        return tuple(float(np.where(can, own, whole).sum()) for own, whole in zip(costs, dense, strict=True)), can

    def plan(budgets: Sequence[float]) -> Planned:
        def fits(choice: Choice) -> bool:
            return all(cost <= budget for cost, budget in zip(totals(choice)[0], budgets, strict=True))

        found = [one for one in _least(choices, fits) if one is not None]
        if not found:
            told = " and ".join(f"{budget:g} {table.measure}" for table, budget in zip(tables, budgets, strict=True))
            raise UserError(f"nothing that is the same everywhere costs {told} or less")
        bound, made = solved(errors, tables, budgets).bound, []
        for choice in found:
            costs, can = totals(choice)
            error = float(np.where(can, _errors_at(choices, matrix, choice), matrix[:, 0]).sum())
            chosen = tuple(choice if able else UNTOUCHED for able in can)
            made.append(Planned(chosen, error, costs, min(bound, error)))
        return min(made, key=lambda one: one.error)

    return plan


def _least(choices: Sequence[Choice], fits: Callable[[Choice], bool]) -> Iterator[Choice | None]:
    """Of every number of bits the least sparsity that fits, and of every pattern itself; None where there is none."""
    ladders: dict[int | None, list[Choice]] = {}
    for choice in choices:
        if choice.pattern is not None:
            yield choice if fits(choice) else None
        else:
            ladders.setdefault(choice.bits, []).append(choice)
    for bits, ladder in ladders.items():
        ladder.sort(key=lambda choice: choice.zeros)
        top = next((n for n, choice in enumerate(ladder) if fits(choice)), None)
        if top is None:
            yield None
            continue
        high, low = ladder[top], ladder[max(0, top - 1)].zeros
        for _ in range(HALVINGS if top else 0):
            middle = Choice(round((low + high.zeros) / 2, 6), None, bits)
            if fits(middle):
                high = middle
            else:
                low = middle.zeros
        yield high


def _errors_at(choices: Sequence[Choice], errors: np.ndarray, choice: Choice) -> np.ndarray:
    """(units,)"""
    if choice in choices:
        return errors[:, list(choices).index(choice)]
    places = [j for j, one in enumerate(choices) if one.pattern is None and one.bits == choice.bits]
    places.sort(key=lambda j: choices[j].zeros)
    levels = [choices[j].zeros for j in places]
    return np.array([np.interp(choice.zeros, levels, row[places]) for row in errors])
