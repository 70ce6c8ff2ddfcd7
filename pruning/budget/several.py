"""The multiple-choice knapsack with several budgets (prefill and decode, latency and memory), as a mixed-integer
program for HiGHS, which scipy brings:

    min sum_l sum_j E_lj x_lj   subject to   sum_j x_lj = 1,   sum_l sum_j t_k,lj x_lj <= T_k,   x_lj in {0, 1}
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from scipy.optimize import LinearConstraint, milp
from scipy.sparse import csr_array

from pruning.budget.knapsack import Rows, Solution
from workloads.errors import UserError

NODES = 500  # of the search tree: a limit in seconds would give a slower machine another plan
LIMIT = 1  # what milp calls a search that was ended
TOLERANCE = 1e-6  # the solver's own, of a budget: taken off every budget, where the cheapest choices leave so much
NOTHING = 1e-9  # of a budget: sums in another order


def solve_several(
    errors: Rows, costs: Mapping[str, Rows], budgets: Mapping[str, float], gap: float = 1e-4, nodes: int = NODES
) -> Solution:
    """errors: a row (choices,) for every unit; costs: the same by the name of a budget, NaN where there is no such
    choice. Ends when no solution can be better by more than the share `gap`, or with the best one that so many `nodes`
    of the tree gave, however long they took. `Solution.cost` is of the first budget. Raises UserError where no choices
    fit, or none was found."""
    known = [~np.any([np.isnan(costs[name][n]) for name in budgets], axis=0) for n in range(len(errors))]
    empty = next((n for n, row in enumerate(known) if not row.any()), None)
    if empty is not None:
        raise UserError(f"unit {empty} has no choice that every target can run")
    places = [np.flatnonzero(row) for row in known]
    flat = np.concatenate([np.asarray(row, float)[where] for row, where in zip(errors, places, strict=True)])
    rows = {name: np.concatenate([costs[name][n][where] for n, where in enumerate(places)]) for name in budgets}
    starts = np.cumsum([0, *(len(where) for where in places)])
    owner = np.repeat(np.arange(len(places)), [len(where) for where in places])
    one_each = csr_array((np.ones(len(flat)), (owner, np.arange(len(flat)))))
    sizes = {name: budget if budget > 0 else 1.0 for name, budget in budgets.items()}
    spent = np.array([rows[name] / size for name, size in sizes.items()])
    limits = np.array([budgets[name] / size for name, size in sizes.items()])
    least = np.array([np.minimum.reduceat(row, starts[:-1]).sum() for row in spent])
    most = np.maximum(limits * (1 - TOLERANCE), np.minimum(limits, least))
    scale = float(flat.max()) or 1.0
    found = milp(
        flat / scale,
        integrality=np.ones(len(flat)),
        bounds=(0, 1),
        constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(spent, ub=most)],
        options={"mip_rel_gap": gap, "node_limit": nodes},
    )
    named = ", ".join(f"{name} {budget:g}" for name, budget in budgets.items())
    if found.x is None:
        if found.status == LIMIT:
            raise UserError(f"no choices were found in {nodes} steps that keep to all budgets: {named}; ask for less")
        raise UserError(f"no choices keep to all budgets: {named}")
    chosen = [int(np.argmax(found.x[low:high])) for low, high in pairwise(starts)]
    at = starts[:-1] + np.array(chosen)
    if (spent[:, at].sum(axis=1) > limits + NOTHING * np.maximum(limits, 1)).any():
        raise UserError(f"no choices keep to all budgets: {named}")
    error = float(flat[at].sum())
    bound = max(0.0, float(found.mip_dual_bound) * scale)
    choices = np.array([int(where[j]) for where, j in zip(places, chosen, strict=True)])
    return Solution(choices, error, float(rows[next(iter(budgets))][at].sum()), min(bound, error))


def within(costs: Mapping[str, Rows], choices: Sequence[int]) -> dict[str, float]:
    """What choices cost, by the name of a budget."""
    return {name: float(sum(row[j] for row, j in zip(rows, choices, strict=True))) for name, rows in costs.items()}
