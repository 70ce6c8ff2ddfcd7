"""Several budgets, SPDY's search and FALCON's projection, each against all choices there are."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.budget import several
from pruning.budget.coefficients import search_coefficients
from pruning.budget.knapsack import solve
from pruning.budget.several import solve_several, within
from pruning.budget.two_budgets import project
from workloads.errors import UserError


def table(seed: int, units: int, choices: int) -> tuple[list[np.ndarray], dict[str, list[np.ndarray]]]:
    rng = np.random.default_rng(seed)
    costs = {name: list(rng.uniform(0.1, 1, (units, choices))) for name in ("prefill", "decode")}
    return list(rng.uniform(0, 1, (units, choices))), costs


def test_several_budgets_against_all_choices() -> None:
    for seed in range(6):
        errors, costs = table(seed, 5, 4)
        budgets = {"prefill": 2.8, "decode": 2.9}
        best = min(
            sum(row[j] for row, j in zip(errors, places, strict=True))
            for places in itertools.product(range(4), repeat=5)
            if all(within(costs, places)[name] <= budget for name, budget in budgets.items())
        )
        found = solve_several(errors, costs, budgets)
        assert all(within(costs, found.choices)[name] <= budget + 1e-9 for name, budget in budgets.items())
        assert found.error == pytest.approx(best, rel=1e-4)
        assert found.bound <= best * (1 + 1e-9)


def test_one_budget_of_several_is_the_knapsack() -> None:
    errors, costs = table(9, 12, 6)
    alone = solve(errors, costs["decode"], 4.0)
    both = solve_several(errors, costs, {"decode": 4.0, "prefill": 1e9})
    assert both.error == pytest.approx(alone.error, rel=2e-3)


def test_budgets_that_no_choice_keeps() -> None:
    errors, costs = table(0, 3, 3)
    with pytest.raises(UserError, match=r"no choices keep to all budgets: prefill 0\.1, decode 9"):
        solve_several(errors, costs, {"prefill": 0.1, "decode": 9.0})


def test_what_was_found_when_the_search_is_ended_keeps_to_the_budgets() -> None:
    errors, costs = table(3, 30, 6)
    budgets = {"prefill": 10.0, "decode": 10.5}
    whole, ended = solve_several(errors, costs, budgets), solve_several(errors, costs, budgets, nodes=1)
    assert all(within(costs, ended.choices)[name] <= budget for name, budget in budgets.items())
    assert ended.bound <= whole.error <= ended.error * (1 + 1e-4)
    assert (ended.choices == solve_several(errors, costs, budgets, nodes=1).choices).all()


def test_the_search_is_ended_by_its_steps_and_not_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def none_found(*arguments: object, options: dict[str, float], **others: object) -> SimpleNamespace:
        asked.append(options)
        return SimpleNamespace(x=None, status=1)

    monkeypatch.setattr(several, "milp", none_found)
    errors, costs = table(0, 3, 3)
    with pytest.raises(UserError, match=r"no choices were found in 7 steps that keep to all budgets: decode 9"):
        solve_several(errors, costs, {"decode": 9.0}, nodes=7)
    assert asked == [{"mip_rel_gap": 1e-4, "node_limit": 7}]


def test_the_search_finds_factors_that_the_loss_asks_for() -> None:
    """The loss weighs the first units ten times as much as their errors say."""
    rng = np.random.default_rng(1)
    errors, costs = list(rng.uniform(0, 1, (8, 4))), list(rng.uniform(0.1, 1, (8, 4)))
    truth = np.r_[np.full(3, 10.0), np.ones(5)]

    def loss(choices: np.ndarray) -> float:
        return float(sum(c * row[j] for c, row, j in zip(truth, errors, choices, strict=True)))

    plain = loss(solve(errors, costs, 3.5).choices)
    best = loss(solve([c * row for c, row in zip(truth, errors, strict=True)], costs, 3.5).choices)
    found = search_coefficients(errors, lambda rows: solve(rows, costs, 3.5), loss, seed=4, tries=30, misses=15)
    assert best <= found.loss <= plain
    assert found.loss - best <= 0.5 * (plain - best)
    again = search_coefficients(errors, lambda rows: solve(rows, costs, 3.5), loss, seed=4, tries=30, misses=15)
    assert (found.factors == again.factors).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 12), st.floats(0, 12))
def test_two_budgets_against_all_subsets(seed: int, most: int, budget: float) -> None:
    rng = np.random.default_rng(seed)
    values, costs = [rng.uniform(0, 1, 5), rng.uniform(0, 1, 3), rng.uniform(0, 1, 4)], rng.uniform(0.2, 2, 3)
    flat, each = np.concatenate(values), np.repeat(costs, [5, 3, 4])
    subsets = (np.arange(2**12)[:, None] >> np.arange(12)) & 1
    allowed = subsets[(subsets.sum(1) <= most) & (subsets @ each <= budget)]
    best = float((allowed @ flat).max())
    found = project(values, costs, most, budget)
    assert found.count <= most
    assert found.cost <= budget + 1e-12
    assert found.value <= best + 1e-12 <= found.bound + 1e-6
    assert best - found.value <= 2 * flat.max()


def test_of_equal_costs_the_largest_stay() -> None:
    values = [np.array([0.5, 0.1]), np.array([0.3, 0.9, 0.2])]
    found = project(values, [1.0, 1.0], 5, 3.0)
    assert [part.tolist() for part in found.keep] == [[True, False], [True, True, False]]
    assert found.value == pytest.approx(found.bound)


def test_the_search_ends_after_so_many_losses() -> None:
    rng = np.random.default_rng(3)
    errors, costs = list(rng.uniform(0, 1, (20, 6))), list(rng.uniform(0.1, 1, (20, 6)))
    asked: list[bytes] = []

    def loss(choices: np.ndarray) -> float:
        asked.append(choices.tobytes())
        return float(rng.uniform())

    found = search_coefficients(errors, lambda rows: solve(rows, costs, 7.0), loss, seed=4, tries=5, misses=5, most=7)
    assert found.evaluated == len(asked) == len(set(asked)) == 7
