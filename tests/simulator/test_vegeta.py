"""vegeta: covers against a slow reading, closed forms, binomial expectations, the published numbers."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from simulator.accelerators.nm import vegeta
from simulator.accelerators.nm.patterns import cover_counts, row_covers
from simulator.machine.spec import load_spec
from simulator.statistics import Statistics
from simulator.work import Work
from validation.twins.vegeta import cover
from workloads import PackedMask

load = partial(load_spec, "vegeta", vegeta.VegetaSpec)


def evaluate(kept: np.ndarray, tokens: int, sets: tuple[str, ...] = (), weight_bits: int | None = None):
    spec, mask = load(sets), PackedMask.from_dense(kept)
    statistics = Statistics(vegeta.Vegeta.of(spec).gather(mask, dict))
    return vegeta.Vegeta.of(spec).evaluate(Work(mask.rows, mask.cols, mask.nnz, tokens, weight_bits), statistics)


def n_of_four(rows: int, cols: int, n: int, seed: int = 0) -> np.ndarray:
    """Exactly n of every four kept, at random places."""
    order = np.random.default_rng(seed).random((rows, cols // 4, 4)).argsort(axis=2)
    return (order < n).reshape(rows, cols)


def expected_lanes(density: float, fours: int = 16) -> float:
    """Of a row of a tile whose weights are kept at random: the cover is 1, 2 or 4 as the fullest of its fours keeps at
    most 1, 2 or more."""
    one, two = (binom.cdf(n, 4, density) ** fours for n in (1, 2))
    return one + 2 * (two - one) + 4 * (1 - two)


@given(
    rows=st.integers(1, 4),
    cols=st.integers(1, 300),
    depth=st.sampled_from([4, 12, 20, 64, 100, 128, 256]),
    density=st.sampled_from([0.02, 0.1, 0.3, 0.6, 1.0]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=80)
def test_covers_are_those_of_a_slow_reading(rows, cols, depth, density, seed):
    kept = np.random.default_rng(seed).random((rows, cols)) < density
    found = row_covers(PackedMask.from_dense(kept).words, cols, depth)
    slow = [[cover(row[c : c + depth]) for c in range(0, cols, depth)] for row in kept]
    assert found.tolist() == slow
    counts = cover_counts(found, 3)
    assert counts.sum() == len(kept) * len(slow[0])
    for i, n in enumerate((1, 2, 4)):
        assert counts[i, 0].tolist() == (np.array(slow[:3]) == n).sum(axis=0).tolist()


@pytest.mark.parametrize(("n", "speedup"), [(1, 4), (2, 2), (3, 1), (4, 1)])
def test_structured_masks_run_at_their_rate(n, speedup):
    kept = n_of_four(1024, 512, n)
    found = evaluate(kept, 32)
    fillings = 1024 * 512 // 512 // speedup
    assert found.sparse.compute_cycles == fillings * 32
    assert found.dense.compute_cycles == speedup * found.sparse.compute_cycles


def test_storage_of_two_of_four_to_the_bit():
    found = evaluate(n_of_four(1024, 512, 2), 16).sparse
    assert found.weight_bytes == 1024 * 512 // 2 * 2
    assert found.metadata_bytes == (1024 * 512 // 2 * 2 + 1024 * 512 // 64 * 2) // 8  # indices, covers


def test_one_weight_moves_one_row_of_one_tile():
    kept = n_of_four(512, 128, 1)
    spec = load()

    def lanes(mask: np.ndarray) -> np.ndarray:
        return np.array([1, 2, 4]) @ cover_counts(row_covers(PackedMask.from_dense(mask).words, 128, 64), 512)[:, 0]

    assert lanes(kept).tolist() == [512, 512]
    two, four = kept.copy(), kept.copy()
    two[7, 68:70] = True
    four[7, 68:71] = True
    assert lanes(two).tolist() == [512, 513]
    assert lanes(four).tolist() == [512, 515]
    # 512 lanes are 16 fillings exactly: one lane more begins another, three more fit into it
    for mask, fillings in ((kept, [16, 16]), (two, [16, 17]), (four, [16, 17])):
        assert vegeta.Vegeta.of(spec).gather(PackedMask.from_dense(mask), dict)["fillings"][0].tolist() == fillings


def test_rows_without_weights_take_a_lane_each():
    empty = np.zeros((64, 64), bool)
    assert evaluate(empty, 16).sparse.compute_cycles == 2 * 16
    assert evaluate(np.ones((64, 64), bool), 16).sparse.compute_cycles == 8 * 16


def test_fewer_tokens_than_a_register_take_as_long():
    kept = n_of_four(64, 64, 2)
    cycles = [evaluate(kept, tokens).sparse.compute_cycles for tokens in (1, 16, 17)]
    assert cycles == [4 * 16, 4 * 16, 4 * 32]


@pytest.mark.parametrize(("zeros", "published"), [(0.9, 2.36), (0.95, 3.28)])
def test_the_rule_gives_the_published_unstructured_speedups(zeros, published):
    """Figures of the paper for 90 % and 95 %; a random mask in the closed form, without packing losses."""
    assert 4 / expected_lanes(1 - zeros) == pytest.approx(published, rel=0.005)
    # a cover of whole rows of the matrix, or of rows of a tile twice as deep, would not give them
    assert 4 / expected_lanes(1 - zeros, 1024) < 0.7 * published
    assert abs(4 / expected_lanes(1 - zeros, 32) / published - 1) > 0.05


@pytest.mark.parametrize("density", [0.02, 0.05, 0.1, 0.2, 0.5])
def test_random_masks_take_the_expected_lanes(density):
    rows, cols = 2048, 2048
    kept = np.random.default_rng(5).random((rows, cols)) < density
    counts = cover_counts(row_covers(PackedMask.from_dense(kept).words, cols, 64), 512)
    lanes = np.array([1, 2, 4]) @ counts.sum(axis=(1, 2)) / (rows * cols // 64)
    assert lanes == pytest.approx(expected_lanes(density), abs=4 * 1.5 / np.sqrt(rows * cols / 64))
    found = evaluate(kept, 16)
    exact = rows * cols / 64 * expected_lanes(density) / 32 * 16
    assert 0.99 * exact <= found.sparse.compute_cycles <= 1.01 * exact + 4 * cols / 64 * 16  # a filling more a granule


def test_published_speedups_of_structured_layers_hold_with_their_older_baseline():
    """The paper divides by an older dense engine, over which this one's dense mode is 1.09 times faster. 2 x 1.09 is
    its 2.20; 4 x 1.09 is 4.36, and the paper has 3.74: at 1:4 its layers meet limits outside the array."""
    two, one = (evaluate(n_of_four(1024, 1024, n), 512) for n in (2, 1))
    by_compute = [o.dense.compute_cycles / o.sparse.compute_cycles for o in (two, one)]
    assert 1.09 * by_compute[0] == pytest.approx(2.20, rel=0.01)
    assert 3.74 < 1.09 * by_compute[1] < 1.2 * 3.74


def test_unstructured_half_gains_nothing():
    found = evaluate(np.random.default_rng(0).random((512, 512)) < 0.5, 64)
    assert found.dense.compute_cycles == found.sparse.compute_cycles
    assert found.sparse.metadata_bytes > 0
    assert "4:4" in found.sparse.mapping
