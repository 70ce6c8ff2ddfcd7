"""Costs add up, and what is not counted stays uncounted."""

from functools import reduce
from operator import add

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.costs import Cost, cost_of, dense_cost_of
from workloads.errors import UserError

ROW = {
    "layer": "l", "target": "t", "feasible": True, "reason": "", "latency_us": 2.0, "energy_pj": 5.0,
    "weight_bytes": 10,
    "metadata_bytes": 1, "scale_bytes": 0, "activation_bytes": 4, "output_bytes": 2, "dense_latency_us": 4.0,
    "dense_energy_pj": 9.0, "dense_bytes": 26,
}  # fmt: skip
costs = st.builds(Cost, *[st.integers(0, 1 << 40)] * 3) | st.builds(Cost, st.integers(0, 1 << 40))


def test_of_a_row():
    assert cost_of(ROW) == Cost(2.0, 5.0, 17)
    assert dense_cost_of(ROW) == Cost(4.0, 9.0, 26)
    nan = float("nan")  # as a table has it
    assert cost_of(ROW | {"energy_pj": nan} | dict.fromkeys([n for n in ROW if n.endswith("_bytes")], nan)) == Cost(2.0)


def test_no_cost():
    with pytest.raises(UserError, match="l cannot run on t, so it has no cost: too large"):
        cost_of(ROW | {"feasible": False, "reason": "too large"})
    with pytest.raises(UserError, match="l has no dense baseline on t: does not fit"):
        dense_cost_of(ROW | {"dense_latency_us": None, "reason": "does not fit"})


@given(st.lists(costs, min_size=1, max_size=6), st.randoms())
def test_sums(parts, random):
    shuffled = random.sample(parts, len(parts))
    whole = reduce(add, parts)
    assert reduce(add, shuffled) == whole
    assert whole.latency_us == sum(part.latency_us for part in parts)
    uncounted = any(part.energy_pj is None for part in parts)
    assert whole.energy_pj == (None if uncounted else sum(part.energy_pj for part in parts))
