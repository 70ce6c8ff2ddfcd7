"""OWL's budgets and patterns: by hand, against a slow twin, and within the bounds that are documented."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.allocations import AllocationJob, owl
from pruning.allocations.balance import spread
from tests.pruning.allocation_jobs import SHAPES, Matrix, allocate, job_of, matrices_of, slow_balance
from workloads.layers import Layer
from workloads.patterns import NofM


def toy(block: int, outliers: int, cols: int = 5) -> list[Matrix]:
    """Two (2, cols) matrices of scores 1, but for `outliers` of 100: |W| = 2 at norm 0.5, and |W| = 1 without norm."""
    layers = [Layer(f"{block}.{name}", name, block, 2, cols) for name in ("q", "up")]
    scaled, plain = torch.full(layers[0].shape, -2.0), torch.ones(layers[1].shape)
    scaled.view(-1)[:outliers] = -200.0
    return [(layers[0], scaled, torch.full((cols,), 0.5)), (layers[1], plain, None)]


def test_owl_by_hand() -> None:
    """k of 20 scores are 100: mean = 1 + 4.95 k, five times that is 29.75, 54.5, 128.75 for k = 1, 2, 5.
    D = 1/20, 2/20, 0; r = (0.08, 0.16, 0), mean 0.08: s = 0.7, 0.62, 0.78."""
    job = job_of([*toy(0, 1), *toy(1, 2), *toy(2, 5)], 0.7)
    assert dict(owl.outlier_ratios(job, 5)) == {0: 1 / 20, 1: 2 / 20, 2: 0}
    sparsity = allocate("owl", job).sparsity
    assert sparsity == pytest.approx(
        {"0.q": 0.7, "0.up": 0.7, "1.q": 0.62, "1.up": 0.62, "2.q": 0.78, "2.up": 0.78}, rel=1e-9
    )


def test_owl_replaces_what_is_not_positive_and_keeps_the_mean() -> None:
    """0.05, -0.03, 0.13 become 0.05, 0.01, 0.13, 0.04 too much: all go down by t = 0.015, the second to 0."""
    job = job_of([*toy(0, 1), *toy(1, 2), *toy(2, 5)], 0.05)
    sparsity = allocate("owl", job).sparsity
    assert [sparsity[f"{block}.q"] for block in range(3)] == pytest.approx([0.035, 0, 0.115], abs=1e-12)


def slow_ratio(matrices: Sequence[Matrix], m: float) -> float:
    scores = []
    for layer, weight, norm in matrices:
        for r in range(layer.out_features):
            for j in range(layer.in_features):
                scores.append(abs(float(weight[r, j])) * (1.0 if norm is None else float(norm[j])))
    threshold = m * math.fsum(scores) / len(scores)
    return sum(score > threshold for score in scores) / len(scores)


@pytest.mark.parametrize("shapes", ["gqa", "moe"])
@pytest.mark.parametrize("m", [2, 5])
def test_owl_equals_its_slow_twin(shapes: str, m: float) -> None:
    matrices = matrices_of(SHAPES[shapes], seed=3)
    job = job_of(matrices, 0.6)
    blocks = sorted({layer.block for layer in job.layers})
    ratios = [slow_ratio([matrix for matrix in matrices if matrix[0].block == block], m) for block in blocks]
    assert list(owl.outlier_ratios(job, m)) == list(zip(blocks, ratios, strict=True))
    r = [(d - min(ratios)) / (max(ratios) - min(ratios)) * 2 * 0.1 for d in ratios]
    raw = [0.6 - (r[blocks.index(layer.block)] - sum(r) / len(r)) for layer in job.layers]
    expected = slow_balance(raw, [layer.n_weights for layer in job.layers], 0.6)
    found = allocate("owl", job, m=m, lam=0.1).sparsity
    assert list(found.values()) == pytest.approx(expected, abs=1e-9)
    assert max(found.values()) - min(found.values()) == pytest.approx(0.2)  # the whole band is used


def test_owl_keeps_one_block_at_a_time() -> None:
    asked = []

    def scored() -> Iterator[Matrix]:
        for matrix in [*toy(0, 1), *toy(1, 2)]:
            asked.append(matrix[0].block)
            yield matrix

    job = job_of([*toy(0, 1), *toy(1, 2)], 0.7)
    ratios = owl.outlier_ratios(AllocationJob(job.layers, 0.7, None, job.weights, scored), 5)
    assert next(ratios)[0] == 0
    assert asked == [0, 0]  # block 1 is not loaded while the matrices of block 0 are held


def test_owl_patterns_by_hand() -> None:
    """1, 2 and 7 of 32 scores are 100: five times their mean is 20.5, 35.9, 113.3. D = 1/32, 2/32, 0, so that
    r' - mean is 0, 1, -1 and the deltas are 0, 2 (for 1), -1."""
    job = job_of([*toy(0, 1, 8), *toy(1, 2, 8), *toy(2, 7, 8)], 5 / 8, NofM(3, 8))
    found = allocate("owl", job)
    assert found.patterns is not None
    assert {name: str(pattern) for name, pattern in found.patterns.items()} == {
        "0.q": "3:8", "0.up": "3:8", "1.q": "5:8", "1.up": "5:8", "2.q": "2:8", "2.up": "2:8",
    }  # fmt: skip
    assert found.sparsity == {name: pattern.sparsity for name, pattern in found.patterns.items()}
    one = allocate("owl", job_of(toy(0, 1, 8), 0.5, NofM(2, 4)))
    assert one.patterns == {"0.q": NofM(2, 4), "0.up": NofM(2, 4)}


def test_owl_kept_counts_stay_patterns() -> None:
    assert owl.kept_counts(np.array([-2.0, -0.6, 0.4, 0.6, 1.4, 2.0]), NofM(2, 4)) == [1, 1, 2, 3, 3, 3]
    assert owl.kept_counts(np.array([-2.0, -0.6, 0.4, 0.6, 1.4, 2.0]), NofM(8, 16)) == [6, 7, 8, 10, 10, 10]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
@settings(max_examples=200, deadline=None)
def test_owl_patterns_miss_the_target_by_no_more_than_documented(scores: list[float]) -> None:
    band = spread(scores)
    missed = np.mean(owl.kept_counts(2 * (band - band.mean()), NofM(32, 64))) - 32
    assert -0.5 <= missed <= 1.25


def test_owl_patterns_of_evenly_spread_and_of_two_valued_scores() -> None:
    assert np.mean(owl.kept_counts(np.linspace(-1, 1, 1000), NofM(3, 8))) == pytest.approx(3.25, abs=0.01)
    two_values = np.array([-1.48] * 26 + [0.52] * 74)  # nearly the worst case: 26 deltas of -1, 74 of 2
    assert np.mean(owl.kept_counts(two_values, NofM(3, 8))) == pytest.approx(3 + 1.22)
