"""BESA's budgets: what coefficients can reach, where they start, and the exact projection (methods 4.1, 4.5)."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.methods.besa.coefficients import candidates, coefficients, first_logits, reach, whole_counts

GRID = candidates(101)


def test_candidates_go_from_nothing_to_everything_in_hundredths() -> None:
    assert GRID[0] == 0
    assert GRID[-1] == 1
    torch.testing.assert_close(GRID.diff(), torch.full((100,), 0.01))


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("sparsity", [0.4, 0.45, 0.5, 0.55, 0.6])
def test_first_logits_express_the_target(sparsity: float, bounded: bool) -> None:
    pi = coefficients(first_logits(sparsity, GRID, bounded)[None], bounded)
    assert float(pi @ GRID) == pytest.approx(sparsity, abs=1e-5)
    assert float(pi.sum()) == pytest.approx(1)


@pytest.mark.parametrize("sparsity", [0.02, 0.1, 0.3, 0.7, 0.9, 0.99])
def test_unbounded_logits_reach_far_targets(sparsity: float) -> None:
    pi = coefficients(first_logits(sparsity, GRID, False)[None], False)
    assert float(pi @ GRID) == pytest.approx(sparsity, abs=1e-5)


def test_at_one_half_every_candidate_weighs_the_same() -> None:
    """As released."""
    for bounded in (False, True):
        assert torch.equal(first_logits(0.5, GRID, bounded), torch.zeros(101))


def test_bounded_coefficients_reach_what_the_specification_says() -> None:
    """[0.376, 0.624] for 101 candidates (methods 4.1)."""
    low, high = reach(GRID)
    assert low == pytest.approx(0.376, abs=5e-4)
    assert high == pytest.approx(0.624, abs=5e-4)
    for sign in (-1, 1):  # the ends are approached by steep logits, and never passed
        pi = coefficients((sign * 1000 * (GRID - 0.5))[None], True)
        assert low - 1e-6 <= float(pi @ GRID) <= high + 1e-6


@given(
    st.integers(0, 2**32 - 1), st.lists(st.tuples(st.integers(1, 6), st.integers(1, 40)), min_size=1, max_size=4),
    st.floats(0, 1),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_counts_hit_the_total_exactly(seed: int, shapes: list[tuple[int, int]], share: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    wanted = [torch.rand(rows, generator=draw) for rows, _ in shapes]
    total = math.floor(share * sum(rows * cols for rows, cols in shapes))
    counts = whole_counts(wanted, [cols for _, cols in shapes], [1] * len(shapes), total)
    assert sum(int(c.sum()) for c in counts) == total
    for count, (rows, cols), sparsity in zip(counts, shapes, wanted, strict=True):
        assert count.shape == (rows,)
        assert int(count.min()) >= 0
        assert int(count.max()) <= cols
        order = sparsity.argsort()
        assert bool((count[order].diff() >= -1).all())  # who wanted more gets more, up to the rounding


def test_a_target_already_met_changes_nothing() -> None:
    counts = whole_counts([torch.tensor([0.25, 0.75]), torch.tensor([0.5])], [8, 4], [1, 1], 2 + 6 + 2)
    assert [c.tolist() for c in counts] == [[2, 6], [2]]


def test_what_rounding_leaves_goes_to_the_largest_fractions() -> None:
    counts = whole_counts([torch.tensor([0.30, 0.39, 0.31])], [10], [1], 10)  # 3.0, 3.9, 3.1
    assert counts[0].tolist() == [3, 4, 3]


def test_steps_of_several_weights() -> None:
    """Rows of runs: a step prunes one weight of each of 5 runs."""
    counts = whole_counts([torch.tensor([0.1, 0.9, 0.5, 0.5])], [4], [5], 4 * 2 * 5)
    assert int(counts[0].sum()) == 8
    assert counts[0][0] < counts[0][1]
