"""Which units go: counts against plain arithmetic, rankings against a search through everything."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoints.discovery import LinearRef
from pruning.structured.choice import cheapest, kept_units, standardized, uniform
from pruning.structured.units import UnitGroup
from workloads.errors import NotForThisModel
from workloads.layers import Layer
from workloads.removal import KV_GROUP, NEURON


def group(name: str, count: int, kind: str = NEURON, features: int = 1, hidden: int = 6, expert: int | None = None):
    path = "mlp.experts" if expert is not None else name
    up = LinearRef(Layer(f"{name}.up", "up", 0, count * features, hidden), path, "weight", expert, False)
    down = LinearRef(Layer(f"{name}.down", "down", 0, hidden, count * features), path, "weight", expert, False)
    return UnitGroup(kind, 0, name, count, down, features, ((up, np.repeat(np.arange(count), features)),))


def scores(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_a_unit_weighs_its_rows_and_columns():
    assert group("a", 5, features=3, hidden=7).unit_weights == 3 * 7 + 7 * 3


@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.floats(0, 0.95))
@settings(max_examples=60, deadline=None)
def test_uniform_counts_sum_to_the_nearest(counts, sparsity):
    groups = [(group(str(n), count), torch.arange(count, dtype=torch.float64)) for n, count in enumerate(counts)]
    wanted = uniform(groups, sparsity)
    kept = kept_units(groups, wanted)
    each = {g.key: int(kept[g.key].sum()) for g, _ in groups}
    for g, _ in groups:
        assert max(1, np.floor(wanted[g.key] - 1e-9)) <= each[g.key] <= max(1, np.ceil(wanted[g.key] + 1e-9))
        assert kept[g.key][-each[g.key] :].all()  # scores rise, so the last stay
    assert abs(sum(each.values()) - sum(max(1.0, value) for value in wanted.values())) <= 0.5 + 1e-9


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_one_ranking_is_nearest_to_the_budget(data):
    """Against every prefix of the ranking: kv groups and neurons, weights counted, the best of each group kept."""
    draw = lambda n: data.draw(st.lists(st.integers(-50, 50), min_size=n, max_size=n, unique=True))  # noqa: E731
    groups = [
        (group("a", 3, KV_GROUP, 4), scores(*draw(3))),
        (group("b", 6), scores(*(value + 0.25 for value in draw(6)))),
        (group("c", 5), scores(*(value + 0.5 for value in draw(5)))),
    ]
    share = data.draw(st.floats(0, 0.9))
    kept = kept_units(groups, cheapest(groups, share))
    total = sum(g.count * g.unit_weights for g, _ in groups)
    gone = sum(int((~kept[g.key]).sum()) * g.unit_weights for g, _ in groups)
    every = sorted((float(s), g.key, n, g.unit_weights) for g, some in groups for n, s in enumerate(some))
    best = {g.key: int(some.argmax()) for g, some in groups}
    free = [(key, n, cost) for _, key, n, cost in every if n != best[key]]
    prefixes = [sum(cost for *_, cost in free[:k]) for k in range(len(free) + 1)]
    assert abs(gone - share * total) == pytest.approx(min(abs(p - share * total) for p in prefixes))
    assert {(g.key, n) for g, _ in groups for n in np.flatnonzero(~kept[g.key])} in [
        {(key, n) for key, n, _ in free[:k]} for k in range(len(free) + 1)
    ]


@pytest.mark.parametrize(("sparsity", "multiple"), list(product((0.1, 0.3, 0.5), (2, 4))))
def test_multiples(sparsity, multiple):
    groups = [(group(str(n), 16), torch.randn(16, dtype=torch.float64)) for n in range(5)]
    kept = kept_units(groups, uniform(groups, sparsity), multiple)
    counts = [int(some.sum()) for some in kept.values()]
    assert all(count % multiple == 0 and count > 0 for count in counts)
    assert abs(sum(counts) - 5 * 16 * (1 - sparsity)) <= multiple / 2


def test_a_group_smaller_than_the_multiple():
    with pytest.raises(NotForThisModel, match="a: 4 neurons hold no multiple of 8; lower `multiple_of`"):
        kept_units([(group("a", 4), scores(1, 2, 3, 4))], {"a.neuron": 2.0}, 8)


def test_everything_stays_whatever_the_multiple():
    kept = kept_units([(group("a", 10), torch.arange(10.0))], {"a.neuron": 10.0}, 4)
    assert kept["a.neuron"].all()


def test_experts_of_a_stack_keep_alike():
    groups = [(group(f"e{n}", 8, expert=n), torch.arange(8.0)) for n in range(3)]
    kept = kept_units(groups, {"e0.neuron": 2.0, "e1.neuron": 5.0, "e2.neuron": 8.0})
    assert [int(some.sum()) for some in kept.values()] == [5, 5, 5]


def test_equal_scores_keep_the_earlier():
    kept = kept_units([(group("a", 4), scores(1, 1, 1, 1))], {"a.neuron": 2.0})
    assert kept["a.neuron"].tolist() == [True, True, False, False]


def test_standardized():
    assert torch.allclose(standardized(scores(1, 2, 3)), scores(-1, 0, 1))
    assert standardized(scores(5, 5)).tolist() == [0, 0]
    assert standardized(scores(5)).tolist() == [0]
