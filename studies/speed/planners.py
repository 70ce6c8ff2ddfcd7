"""Ways to spend budgets: each gives, for what the units together may cost by every table, what every unit gets.

    knapsack   the least sum of errors (pruning/budget/knapsack.py)
    even       the same for every unit: of the sparsities, patterns and bits that cost no more, the one of least error
    owl        OWL's sparsity of each block (pruning/allocations/owl.py) at the least sparsity of all together
    searched   the knapsack with a factor on the errors of each unit, found by SPDY's search (coefficients.py)

Errors of single matrices do not add up where much goes, so none of the four is the best everywhere."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from pruning.budget.knapsack import Rows, Solution, solve
from pruning.budget.several import solve_several
from pruning.shifting import shifted
from workloads.choices import UNTOUCHED, Choice
from workloads.cost_table import CostTable
from workloads.errors import UserError

KNAPSACK, EVEN, OWL, SEARCHED = "knapsack", "even", "owl", "searched"
HALVINGS = 7  # of a step of the ladder, towards the least sparsity within a budget
DIGITS = 3  # of a block's sparsity: blocks, and plans of budgets nearly alike, share what the machine was asked


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
Shares = Callable[[float], np.ndarray]


def solved(errors: Rows, tables: Sequence[CostTable], budgets: Sequence[float]) -> Solution:
    """By the knapsack, or for several budgets by HiGHS. Raises UserError where no choices fit."""
    if len(tables) == 1:
        return solve(errors, list(tables[0].costs), budgets[0])
    names = [f"{n + 1}. {table.measure}" for n, table in enumerate(tables)]
    costs = {name: list(table.costs) for name, table in zip(names, tables, strict=True)}
    return solve_several(errors, costs, dict(zip(names, budgets, strict=True)))


def bound_of(errors: Rows, tables: Sequence[CostTable], budgets: Sequence[float]) -> float:
    """No choices of the tables within the budgets have a sum of errors below it. Where HiGHS finds no choices (plans
    between the levels may fit where none of the tables does) the highest of one budget alone, 0 where that has none
    either."""
    try:
        return solved(errors, tables, budgets).bound
    except UserError:
        return max((_alone(errors, *one) for one in zip(tables, budgets, strict=True)), default=0.0)


def _alone(errors: Rows, table: CostTable, budget: float) -> float:
    try:
        return solve(errors, list(table.costs), budget).bound
    except UserError:
        return 0.0


def knapsack(tables: Sequence[CostTable], errors: Rows, factors: np.ndarray | None = None) -> Planner:
    """Tables of the same units and choices. `factors` (units,) on the errors, by which it is solved; `Planned.error` is
    without them."""
    weighed = errors if factors is None else [row * c for row, c in zip(errors, factors, strict=True)]

    def plan(budgets: Sequence[float]) -> Planned:
        found = solved(weighed, tables, budgets)
        bound = found.bound if factors is None else bound_of(errors, tables, budgets)
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
        bound, made = bound_of(errors, tables, budgets), []
        for choice in found:
            costs, can = totals(choice)
            error = float(np.where(can, _at(choices, matrix, choice), matrix[:, 0]).sum())
            chosen = tuple(choice if able else UNTOUCHED for able in can)
            made.append(Planned(chosen, error, costs, min(bound, error)))
        return min(made, key=lambda one: one.error)

    return plan


def owl(tables: Sequence[CostTable], errors: Rows, costs_of: CostsOf, shares: Shares) -> Planner:
    """`shares(sparsity)` (units,) sparsities with that mean over weights; none goes beyond the highest level, what that
    takes the others lose. `costs_of` as for `even`. Raises UserError where no unit can have a level of the tables."""
    matrix, choices, weights = np.array(errors), tables[0].choices, np.array([u.weights for u in tables[0].units])
    ladder = sorted((one for one in choices if one.pattern is None and one.bits is None), key=lambda one: one.zeros)
    places = [choices.index(one) for one in ladder if one.zeros]
    if not any(np.isfinite(table.costs[:, places]).any() for table in tables):
        where = tables[0].facts.get("target", "the target")
        raise UserError(f"owl gives sparsities without a pattern or bits, and of these there are none on {where}")
    levels = [one.zeros for one in ladder]

    def made(sparsity: float, ask: CostsOf) -> tuple[tuple[Choice, ...], tuple[float, ...]]:
        """(what every unit gets, what all cost by every table)"""
        own = shares(sparsity)
        if own.max() > levels[-1]:
            own = shifted(own, weights, sparsity * float(weights.sum()), 0, levels[-1])
        chosen, costs = [], np.zeros((len(tables), len(own)))
        for n, share in enumerate(own):
            choice = Choice(round(float(share), DIGITS))
            found = [of[n] for of in ask(choice)]
            chosen.append(UNTOUCHED if np.isnan(found).any() else choice)
            costs[:, n] = [table.costs[n, 0] for table in tables] if np.isnan(found).any() else found
        return tuple(chosen), tuple(map(float, costs.sum(axis=1)))

    @cache
    def drawn(choice: Choice) -> list[np.ndarray]:
        return [_at(choices, table.costs, choice) for table in tables]

    def plan(budgets: Sequence[float]) -> Planned:
        def fits(sparsity: float, ask: CostsOf = costs_of) -> bool:
            return all(cost <= budget for cost, budget in zip(made(sparsity, ask)[1], budgets, strict=True))

        # What the lines between levels say is near, and costs the machine no time.
        top = next((n for n, level in enumerate(levels) if fits(level, drawn)), len(levels) - 1)
        while top < len(levels) and not fits(levels[top]):
            top += 1
        if top == len(levels):
            told = " and ".join(f"{budget:g} {table.measure}" for table, budget in zip(tables, budgets, strict=True))
            raise UserError(f"owl's sparsities of at most {levels[-1]:g} cost more than {told}")
        while top and fits(levels[top - 1]):
            top -= 1
        low, high = levels[max(0, top - 1)], levels[top]
        for _ in range(HALVINGS if top else 0):
            middle = (low + high) / 2
            low, high = (low, middle) if fits(middle) else (middle, high)
        chosen, costs = made(high, costs_of)
        error = float(sum(_at(choices, matrix[[n]], choice)[0] for n, choice in enumerate(chosen)))
        return Planned(chosen, error, costs, min(bound_of(errors, tables, budgets), error))

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


def _at(choices: Sequence[Choice], rows: np.ndarray, choice: Choice) -> np.ndarray:
    """(units,), of rows (units, choices): errors or costs, between levels linear."""
    if choice in choices:
        return rows[:, list(choices).index(choice)]
    places = [j for j, one in enumerate(choices) if one.pattern is None and one.bits == choice.bits]
    places.sort(key=lambda j: choices[j].zeros)
    levels = [choices[j].zeros for j in places]
    return np.array([np.interp(choice.zeros, levels, row[places]) for row in rows])
