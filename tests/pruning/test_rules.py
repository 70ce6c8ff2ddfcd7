"""The selection rules against the plainest oracle there is: a stable argsort, first so many pruned."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pruning.rules import (
    global_keeper,
    keep_by_floored_row,
    keep_by_layer,
    keep_by_pattern,
    keep_by_row,
    keep_up_to_threshold,
    pruned_count,
)
from workloads.errors import UserError
from workloads.patterns import NofM

# Few different values, so that ties are everywhere; -0.0 and 0.0 tie too.
TIED = [-0.0, 0.0, 1e-45, 0.5, 1.0, 1.0000001, 3e38]
PERCENT = st.integers(0, 99)


def scores_of(rows: st.SearchStrategy[int], cols: st.SearchStrategy[int]) -> st.SearchStrategy[np.ndarray]:
    numbers = st.sampled_from(TIED) | st.floats(0, 1e6, width=32)
    return st.tuples(rows, cols).flatmap(lambda shape: arrays.arrays(np.float32, shape, elements=numbers))


def keep_of(row: np.ndarray, pruned: int) -> np.ndarray:
    """The `pruned` lowest of a vector go, ties by index (a list sort is stable; -0.0 equals 0.0)."""
    order = sorted(range(len(row)), key=lambda j: float(row[j]))
    keep = np.ones(len(row), bool)
    keep[order[:pruned]] = False
    return keep


@given(scores_of(st.integers(1, 5), st.integers(1, 12)), PERCENT)
@settings(max_examples=150, deadline=None)
def test_row_and_layer_rules_equal_the_oracle(scores: np.ndarray, percent: int) -> None:
    rows, cols = scores.shape
    by_row = np.stack([keep_of(row, cols * percent // 100) for row in scores])
    floored = keep_by_floored_row(torch.from_numpy(scores), percent / 100).numpy()
    np.testing.assert_array_equal(floored, by_row)
    total = rows * cols * percent // 100
    each, more = divmod(total, rows)
    by_row = np.stack([keep_of(row, each) for row in scores])
    for row in sorted(range(rows), key=lambda r: (np.sort(scores[r])[min(each, cols - 1)], r))[:more]:
        by_row[row] = keep_of(scores[row], each + 1)
    assert (~by_row).sum() == total
    by_layer = keep_of(scores.reshape(-1), rows * cols * percent // 100).reshape(rows, cols)
    np.testing.assert_array_equal(keep_by_row(torch.from_numpy(scores), percent / 100).numpy(), by_row)
    np.testing.assert_array_equal(keep_by_layer(torch.from_numpy(scores), percent / 100).numpy(), by_layer)


def test_released_counts_of_a_matrix_take_one_more() -> None:
    scores = torch.arange(12.0).reshape(3, 4)
    assert (~keep_up_to_threshold(scores, 0.5)).sum() == 7
    assert (~keep_up_to_threshold(scores, 1.0)).all()


@given(st.data(), st.sampled_from([(1, 2), (2, 4), (1, 4), (3, 4), (4, 8), (5, 7)]))
@settings(max_examples=100, deadline=None)
def test_patterns_equal_the_oracle(data: st.DataObject, pattern: tuple[int, int]) -> None:
    n, m = pattern
    scores = data.draw(scores_of(st.integers(1, 4), st.integers(1, 3).map(lambda runs: runs * m)))
    expected = np.stack([keep_of(run, m - n) for run in scores.reshape(-1, m)]).reshape(scores.shape)
    np.testing.assert_array_equal(keep_by_pattern(torch.from_numpy(scores), NofM(n, m)).numpy(), expected)


@given(st.lists(scores_of(st.integers(1, 4), st.integers(1, 6)), min_size=1, max_size=5), PERCENT)
@settings(max_examples=50, deadline=None)
def test_the_global_rule_equals_the_oracle_over_all_matrices(matrices: list[np.ndarray], percent: int) -> None:
    everything = np.concatenate([matrix.reshape(-1) for matrix in matrices])
    expected = keep_of(everything, len(everything) * percent // 100)
    tensors = [torch.from_numpy(matrix) for matrix in matrices]
    keep = global_keeper(lambda: iter(tensors), percent / 100)
    kept = np.concatenate([keep(tensor).numpy().reshape(-1) for tensor in tensors])
    np.testing.assert_array_equal(kept, expected)


def test_counts_are_exact_where_floating_point_falls_short() -> None:
    assert 0.29 * 100 < 29  # what makes this worth a test
    assert pruned_count(100, 0.29) == 29
    scores = torch.rand(7, 100, generator=torch.Generator().manual_seed(0))
    assert (~keep_by_row(scores, 0.29)).sum(dim=1).tolist() == [29] * 7
    assert int((~keep_by_layer(scores, 0.57)).sum()) == 399
    keep = global_keeper(lambda: iter([scores, scores[:3]]), 0.29)
    assert int((~keep(scores)).sum()) + int((~keep(scores[:3])).sum()) == 290


@pytest.mark.parametrize("rule", [keep_by_row, keep_by_layer])
def test_sparsity_zero_keeps_all_even_of_equal_scores(rule) -> None:
    assert bool(rule(torch.zeros(3, 8), 0.0).all())
    assert bool(global_keeper(lambda: iter([torch.zeros(3, 8)]), 0.0)(torch.zeros(3, 8)).all())


@pytest.mark.parametrize("sparsity", [0.13, 0.5, 0.999])
def test_a_matrix_of_equal_scores_loses_its_first_weights(sparsity: float) -> None:
    scores = torch.ones(64, 1000)
    cut = round(1000 * sparsity)
    assert torch.equal(keep_by_row(scores, sparsity), (torch.arange(1000) >= cut).expand(64, -1))
    assert torch.equal(keep_by_layer(scores, sparsity).reshape(-1), torch.arange(64000) >= 64 * cut)


def test_row_rule_on_a_large_matrix_equals_numpys_stable_argsort() -> None:
    scores = torch.randint(0, 50, (200, 1111), generator=torch.Generator().manual_seed(1)).float()
    order = np.argsort(scores.numpy(), axis=1, kind="stable")
    expected = np.ones(scores.shape, bool)
    np.put_along_axis(expected, order[:, :611], False, axis=1)
    np.testing.assert_array_equal(keep_by_floored_row(scores, 0.55).numpy(), expected)


def test_the_global_rule_refuses_negative_scores() -> None:
    with pytest.raises(UserError, match="not negative"):
        global_keeper(lambda: iter([torch.tensor([[1.0, -1.0]])]), 0.5)
