"""The solver of budgets against all choices there are, and the laws that hold for any table."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.budget.knapsack import front, solve
from workloads.errors import UserError

NUMBER = st.floats(0, 10, allow_nan=False, allow_subnormal=False)
ROWS = st.integers(1, 5).flatmap(
    lambda choices: st.lists(st.lists(st.tuples(NUMBER, NUMBER), min_size=choices, max_size=choices), min_size=1,
                             max_size=6)
)  # fmt: skip


def of(rows: list[list[tuple[float, float]]]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [np.array([e for e, _ in row]) for row in rows], [np.array([t for _, t in row]) for row in rows]


def least_error(errors: list[np.ndarray], costs: list[np.ndarray], budget: float) -> float:
    """By trying all choices."""
    best = np.inf
    for places in itertools.product(*(range(len(row)) for row in errors)):
        if sum(row[j] for row, j in zip(costs, places, strict=True)) <= budget:
            best = min(best, sum(row[j] for row, j in zip(errors, places, strict=True)))
    return best


@settings(max_examples=60, deadline=None)
@given(ROWS, st.floats(0, 1))
def test_against_all_choices(rows: list[list[tuple[float, float]]], share: float) -> None:
    errors, costs = of(rows)
    low, high = sum(row.min() for row in costs), sum(row.max() for row in costs)
    budget = low + share * (high - low)
    found = solve(errors, costs, budget)
    assert sum(row[j] for row, j in zip(costs, found.choices, strict=True)) <= budget * (1 + 1e-9)
    best = least_error(errors, costs, budget * (1 + 1e-9))
    assert found.bound <= best + 1e-9
    assert found.error >= best - 1e-9
    # rounding up gives away at most a bucket a unit
    within = least_error(errors, costs, budget * (1 - len(rows) / 20_000))
    assert found.error <= max(within, best * 1.001) + 1e-9
    assert solve(errors, costs, budget, 20_000).error <= within + 1e-9


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_a_larger_budget_is_never_worse(rows: list[list[tuple[float, float]]]) -> None:
    errors, costs = of(rows)
    low, high = sum(row.min() for row in costs), sum(row.max() for row in costs)
    found = [solve(errors, costs, low + share * (high - low)).error for share in (0.2, 0.5, 0.8, 1.0)]
    exact = [least_error(errors, costs, low + share * (high - low)) for share in (0.2, 0.5, 0.8, 1.0)]
    assert exact == sorted(exact, reverse=True)
    assert all(here <= before + 1e-3 * max(exact) for before, here in itertools.pairwise(found))
    assert found[-1] == pytest.approx(sum(row.min() for row in errors))


def test_choices_of_equal_cost_are_those_of_least_error() -> None:
    rng = np.random.default_rng(0)
    errors = list(rng.uniform(0, 1, (9, 7)))
    found = solve(errors, [np.full(7, 2.0)] * 9, 18.0)
    assert list(found.choices) == [int(row.argmin()) for row in errors]
    assert found.gap == 0


@pytest.mark.parametrize(("budget", "choice"), [(3.0, 2), (2.999, 1), (1.0, 0), (1.999999, 0), (2.0, 1), (9.0, 3)])
def test_one_unit_gets_what_fits(budget: float, choice: int) -> None:
    errors, costs = [np.array([4.0, 3.0, 2.0, 0.0])], [np.array([1.0, 2.0, 3.0, 9.0])]
    assert solve(errors, costs, budget).choices.tolist() == [choice]


def test_a_narrower_choice_that_is_slower_is_never_taken() -> None:
    errors, costs = np.array([0.0, 0.1, 0.3, 0.9]), np.array([10.0, 6.0, 7.0, 5.0])
    assert front(errors, costs)[0].tolist() == [3, 1, 0]
    for budget in np.arange(5 * 4, 45, 0.5):
        assert 2 not in solve([errors] * 4, [costs] * 4, float(budget)).choices


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(UserError, match="the cheapest choices cost 4 together, the budget is 3"):
        solve([np.ones(2)] * 2, [np.array([2.0, 5.0])] * 2, 3.0)
    with pytest.raises(UserError, match="no choice that the target can run"):
        solve([np.ones(2)], [np.full(2, np.nan)], 3.0)
    assert solve([np.array([0.0, 1.0])], [np.array([np.nan, 1.0])], 3.0).choices.tolist() == [1]


def test_the_size_of_a_7b_model() -> None:
    rng = np.random.default_rng(3)
    costs = np.sort(rng.uniform(0.2, 1, (224, 12)), axis=1)[:, ::-1] * rng.uniform(0.5, 3, (224, 1))
    errors = np.sort(rng.uniform(0, 1, (224, 12)) ** 3, axis=1) * rng.lognormal(0, 1, (224, 1))
    found = solve(list(errors), list(costs), costs[:, 0].sum() / 1.5)
    assert found.gap <= 0.005
    assert found.cost <= costs[:, 0].sum() / 1.5
