"""The scale of budgets against staircases whose steps are known."""

import numpy as np
import pytest

from studies.speed.scaling import ENOUGH, NEAR, ROUNDS, Tried, scaled


def search(costs: np.ndarray, masks: np.ndarray, asked: float = 100.0):
    """Plans of rising `costs` by the table, `masks` what theirs cost; the dearest within a budget is taken. (what the
    masks of each plan tried cost, what `scaled` gave)"""
    seen: list[float] = []

    def attempt(scales) -> Tried:
        n = max(0, int(np.searchsorted(costs, asked * scales[0], "right")) - 1)
        if masks[n] not in seen:
            seen.append(float(masks[n]))
        return Tried(str(n), (asked / masks[n],), (masks[n] / costs[n],), (asked * scales[0] <= costs[0],))

    return seen, scaled(attempt, 1)


def test_between_a_miss_and_a_far_step_the_budget_is_halved() -> None:
    """By the table 80, 81 ... 100; masks of more than 92.5 cost a fifth more, of others what the table says. What is
    off at 100 (1.2) leads to 83, far below the 92 that meets."""
    costs = np.arange(80.0, 101.0)
    seen, above = search(costs, np.where(costs > 92.5, 1.2 * costs, costs))
    assert seen[:2] == [120.0, 83.0]
    met = max(cost for cost in seen if cost <= 100)
    assert met in (91.0, 92.0)
    assert above is not None
    assert above <= NEAR
    assert len(seen) <= ROUNDS


def test_a_step_without_plans_between_ends_near_it() -> None:
    """Two plans alone: nothing new is made however the budget is halved."""
    seen, above = search(np.array([60.0, 99.0]), np.array([60.0, 105.0]))
    assert seen == [105.0, 60.0]
    assert above is not None
    assert above <= NEAR


@pytest.mark.parametrize("off", [0.9, 1.0, 1.1])
def test_where_the_sum_is_off_by_one_factor_two_plans_are_enough(off: float) -> None:
    costs = np.linspace(10, 200, 19_001)  # steps of 0.01
    seen, _ = search(costs, off * costs)
    assert len(seen) <= 2
    assert 100 / (1 + ENOUGH) <= seen[-1] <= 100


def test_at_the_cheapest_it_ends() -> None:
    seen, above = search(np.array([90.0, 99.0]), np.array([101.0, 130.0]))
    assert seen == [130.0, 101.0]
    assert above is None  # none met


def test_rounds_are_bounded() -> None:
    """Masks that jump to and fro around what was asked."""
    costs = np.linspace(1, 100, 100_000)
    seen, _ = search(costs, np.where(np.arange(100_000) % 2, costs * 0.5, costs * 2.5))
    assert len(seen) <= ROUNDS


def test_of_two_demands_both_are_between() -> None:
    """Each is met from its own scale downwards, 0.93 and 0.99; what was off says 0.7 of either."""
    edges, seen = (0.93, 0.99), []

    def attempt(scales) -> Tried:
        fits = [scale <= edge for scale, edge in zip(scales, edges, strict=True)]
        seen.append(tuple(scales))
        over = tuple(1.1 if fit else 0.9 for fit in fits)
        return Tried(str(scales), over, tuple(1.0 if fit else 1 / 0.7 for fit in fits), (False, False))

    above = scaled(attempt, 2)
    met = [scales for scales in seen if scales[0] <= edges[0] and scales[1] <= edges[1]]
    assert above is not None
    assert above <= NEAR
    assert max(one[0] for one in met) >= edges[0] * (1 - NEAR)
