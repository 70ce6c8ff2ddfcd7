"""`vitcod-paper` against its slow, literal twin, and against the published figures."""

import functools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import workloads
from simulator.accelerators.named import open_accelerator
from simulator.accelerators.vitcod.relabel import count_right_of, relabel
from simulator.simulate import simulate_layers
from simulator.statistics import Statistics
from simulator.work import Work
from validation.twins.vitcod_paper import (
    patch_tries,
    right_of_dense,
    right_of_dense_by_label,
    skewed,
    twin_cycles,
    twin_published_dense,
    walk,
)
from workloads.bundle import LayerEntry
from workloads.conditions import Conditions
from workloads.operations import linears_in_memory

DEIT = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "vitcod" / "deit_tiny_0.95"


# The product.


@functools.cache
def target(W, H):
    return open_accelerator("vitcod-paper", [f"array.width={W}", f"array.height={H}"])


def simulate(mask, W=64, H=64):
    opened = target(W, H)
    packed = workloads.PackedMask.from_dense(mask)
    statistics = Statistics(opened.gather(packed, dict))
    return opened.evaluate(Work(*packed.shape, packed.nnz, tokens=1), statistics)


def check(mask, W, H, right_of=right_of_dense):
    outcome = simulate(mask, W, H)
    R, C = mask.shape
    assert outcome.sparse.cycles == twin_cycles(mask, W, H, right_of)
    assert outcome.dense.cycles == math.ceil(R * C / (W * H))
    assert outcome.published_dense_cycles == twin_published_dense(R, C, W, H)
    return outcome


# Small matrices: every label below the spare one.


@st.composite
def small_masks(draw):
    R, C = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    extreme = st.sampled_from([0.0, 0.01, 0.05, 0.4, 0.5, 0.6, 0.95, 0.99, 1.0])
    levels = draw(st.lists(st.one_of(extreme, st.floats(0, 1)), min_size=1, max_size=4))
    density = rng.choice(levels, size=C)  # one level: even; more: column-skewed
    return rng.random((R, C)) < density


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mask=small_masks(), W=st.integers(1, 9), H=st.integers(1, 9))
def test_small_matrices_equal_the_twin(mask, W, H):
    check(mask, W, H)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), R=st.integers(1, 20), C=st.integers(1, 40), W=st.integers(1, 70), H=st.integers(1, 9))
def test_columns_at_the_threshold_equal_the_twin(data, R, C, W, H):
    """Column counts drawn outright, so that many lie exactly on r*R (`more than`, in floating point as written)."""
    counts = data.draw(st.lists(st.integers(0, R), min_size=C, max_size=C))
    check(np.arange(R)[:, None] < np.array(counts), W, H)


# Label 200 is a real one.


LABEL_CASES = {
    "square, 0 dense": ((300, 300), {"full": [0]}),
    "square, 0 sparse, 200 dense": ((300, 300), {"full": [200], "bare": [0]}),
    "square, 0 and 200 dense": ((300, 300), {"full": [0, 200]}),
    "square, 0 and 200 sparse": ((300, 300), {"bare": [0, 200]}),
    "square, 200 the first dense": ((300, 300), {"full": [200, 210, 260], "bare": range(200)}),
    "square, 200 the only dense": ((300, 300), {"full": [200], "heavy": 0.0}),
    "square, more than 200 dense": ((420, 420), {"heavy": 0.6}),
    "square, more than 200 dense, 200 among them": ((420, 420), {"heavy": 0.6, "full": [200]}),
    "square, label 200 the last": ((201, 201), {"full": [200]}),
    "square, label 200 just outside": ((200, 200), {"full": [0, 199]}),
    "square, nearly all dense": ((260, 260), {"heavy": 0.95, "bare": [3]}),
    "square, few kept": ((300, 300), {"heavy": 0.1, "high": 0.2, "low": 0.01}),
    "high, both with 200": ((420, 260), {"full": [0, 200]}),
    "high, 200 the first dense": ((400, 240), {"full": [200, 230], "bare": range(200)}),
    "high, 200 a row only": ((350, 190), {"full": [0]}),
    "high, 200 a row only, 0 sparse": ((350, 190), {"bare": [0]}),
    "high, 200 the first label outside C": ((420, 200), {"full": [199]}),
    "wide, last patch narrower than 201": ((250, 420), {"full": [0, 200, 250]}),
    "wide, last patch without column 0": ((250, 420), {"full": [200], "bare": [0, 250]}),
    "wide, last patch of 201": ((210, 411), {"full": [410], "bare": [210]}),
    "wide, last patch of one column": ((205, 411), {"full": [200, 410]}),
    "wide, whole patches": ((205, 410), {"full": [200, 205, 405]}),
    "wide, rows below 200": ((195, 400), {"full": [0, 200]}),
}


@pytest.mark.parametrize("name", LABEL_CASES)
def test_label_200_in_play_equals_the_twin(name):
    shape, kind = LABEL_CASES[name]
    for seed, (W, H) in enumerate([(64, 64), (7, 5), (1, 1)]):
        check(skewed(seed, *shape, **kind), W, H)


@pytest.mark.parametrize("seed", range(12))
def test_random_shapes_around_200_equal_the_twin(seed):
    rng = np.random.default_rng([200, seed])
    R, C = (int(size) for size in rng.integers(190, 421, 2))
    low, high = sorted(rng.random(2))
    W, H = (int(size) for size in rng.integers(1, 65, 2))
    check(skewed(seed, R, C, heavy=float(rng.random()), low=low, high=high), W, H)


def test_merged_labels_by_hand():
    """Only column 0 is dense, so labels 0 and 200 both end as 0: column 200 leaves the sparse part, and the entries of
    rows 0 and 200 fall together."""
    mask = np.zeros((201, 201), bool)
    mask[:, 0] = True
    mask[[0, 200], 1:200] = True
    mask[5, 200] = True
    assert right_of_dense(mask, [0]) == 199  # of 399 kept there
    assert check(mask, 1, 1).sparse.cycles == 199


def test_walk_per_label_equals_walk_per_entry():
    for seed, shape in enumerate([(300, 300), (420, 260), (350, 190), (230, 230)]):
        mask = skewed(seed, *shape)
        for dense in ([0, 7, 180], [5, 100], list(range(1, 190, 2))):
            assert right_of_dense_by_label(mask, dense) == right_of_dense(mask, dense)


# The product's walk on its own, so that shapes and dense columns that no search reaches are compared as well.


def product_right_of_dense(mask, dense):
    packed = workloads.PackedMask.from_dense(mask)
    labels = relabel(np.array(dense, dtype=np.int64), max(mask.shape))
    return count_right_of(packed, mask.sum(axis=0), labels, len(dense))


@settings(max_examples=200, deadline=None)
@given(data=st.data(), size=st.integers(1, 450))
def test_relabel_equals_the_walk(data, size):
    share = data.draw(st.floats(0, 1))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    dense = np.flatnonzero(rng.random(size) < share)
    labels = np.arange(size)
    walk(labels, dense)
    np.testing.assert_array_equal(relabel(dense, size), labels)


@pytest.mark.parametrize("shape", [(150, 300), (199, 201), (201, 199), (230, 400), (300, 300), (400, 150), (30, 45)])
def test_count_right_of_equals_the_walk_over_entries(shape):
    rng = np.random.default_rng(shape)
    for density in (0.03, 0.5, 0.95):
        mask = rng.random(shape) < density
        last = shape[1] - 1
        for dense in ([], [0], [last], [min(200, last)], [0, min(200, last)], np.flatnonzero(rng.random(last) < 0.4)):
            assert product_right_of_dense(mask, dense) == right_of_dense(mask, dense)


def test_rows_merged_outside_the_matrix_are_dropped_once():
    """Dense column 201 of 201 x 202: rows 0 and 200 both end as 201, below the last row, so nothing of them is left."""
    mask = np.zeros((201, 202), bool)
    mask[0, 1] = True
    assert right_of_dense(mask, [201]) == 0
    assert product_right_of_dense(mask, [201]) == 0


# Edges.


EDGE_SHAPES = [(1, 1), (1, 9), (9, 1), (1, 300), (300, 1), (8, 8), (30, 7), (7, 30), (201, 201), (320, 201), (210, 330)]


@pytest.mark.parametrize("shape", EDGE_SHAPES)
@pytest.mark.parametrize(("W", "H"), [(64, 64), (8, 4), (1, 3), (3, 1)])
def test_all_kept_and_none_kept(shape, W, H):
    check(np.ones(shape, bool), W, H)
    assert check(np.zeros(shape, bool), W, H).sparse.cycles == 0


@pytest.mark.parametrize("shape", EDGE_SHAPES)
def test_one_kept(shape):
    for row, col in {(0, 0), (shape[0] - 1, shape[1] - 1), (shape[0] - 1, 0)}:
        mask = np.zeros(shape, bool)
        mask[row, col] = True
        for W, H in [(64, 64), (1, 1)]:
            check(mask, W, H)


@pytest.mark.parametrize("seed", range(6))
def test_width_one(seed):
    """No room for both kinds of columns: either w = 0 or W - w = 0."""
    shape = [(40, 40), (60, 25), (25, 60), (230, 230), (260, 210), (210, 260)][seed]
    check(skewed(seed, *shape), 1, 5)


def test_an_empty_patch_costs_nothing():
    mask = skewed(1, 20, 50)
    mask[:, 20:40] = False
    assert check(mask, 8, 4).sparse.cycles == check(mask[:, :20], 8, 4).sparse.cycles + twin_cycles(mask[:, 40:], 8, 4)


def test_the_search_runs_to_its_last_try_in_both_directions():
    full = np.ones((20, 20), bool)
    assert len(patch_tries(full, 8, 4)) == 5
    check(full, 8, 4)
    thin = skewed(2, 40, 40, heavy=0.0, low=0.05)
    assert len(patch_tries(thin, 8, 4)) == 5
    check(thin, 8, 4)


@pytest.mark.parametrize(("counts", "W", "share"), [([9, 6, 5, 5], 6, 0.6), ([6, 5, 4], 4, 0.4)])
def test_a_share_on_the_bound_is_tried_further(counts, W, share):
    """D/E is exactly 0.6 or 0.4 at the first ratio, which gives 5 cycles; the second gives 4."""
    assert sum(count for count in counts if count > 5) / sum(counts) == share
    mask = np.arange(10)[:, None] < np.array(counts)
    assert [cycles for _, cycles in patch_tries(mask, W, 1)][:2] == [5, 4]
    assert check(mask, W, 1).sparse.cycles == 4


def test_share_is_the_published_floating_point_one():
    """A share of 1/49 on 49 PE columns: 49 * (1 / 49) is below 1 in floating point, so no PE column is dense and all 49
    share 4800 sparse weights; exact arithmetic would make it 48 columns and 100 cycles."""
    mask = np.zeros((100, 97), bool)
    mask[:50] = True
    mask[:, 0] = True
    assert check(mask, 49, 1).sparse.cycles == 98


@pytest.mark.parametrize("tokens", [2, 16, 2048])
def test_more_tokens_than_one_are_refused(tokens):
    mask = workloads.PackedMask.dense(8, 8)
    entry = LayerEntry("a", "q", 0, 8, 8, "unstructured", 64, None, mask.sha256(), "")
    with pytest.raises(workloads.UserError, match="models 1 token") as error:
        list(
            simulate_layers(
                [target(8, 8)], workloads.BundleHeader("m", "x"), linears_in_memory([(entry, mask)]), Conditions(tokens)
            )
        )
    assert "\n" not in str(error.value)


# Published figures.


@pytest.mark.parametrize(
    ("shape", "published", "dense"),
    [((4096, 4096), 4096, 4096), ((4096, 11008), 10128, 11008), ((11008, 4096), 4096, 11008)],
)
def test_published_dense_cycles(shape, published, dense):
    assert twin_published_dense(*shape, 64, 64) == published
    outcome = simulate(np.zeros(shape, bool))
    assert outcome.published_dense_cycles == published
    assert outcome.dense.cycles == dense


def test_half_kept_4096_is_near_the_published_cycles():
    mask = np.random.default_rng(0).random((4096, 4096), dtype=np.float32) < 0.5
    outcome = check(mask, 64, 64, right_of_dense_by_label)
    assert outcome.sparse.cycles == pytest.approx(3094, rel=0.02)


@pytest.mark.skipif(not DEIT.is_dir(), reason="the published masks of DeiT-Tiny are not in shared/data/vitcod")
def test_published_attention_masks_give_the_published_sparse_share():
    """Head 0, mean over the layers of the density right of the dense columns, as published."""
    pruned = np.load(DEIT / "info_0.95.npy")
    published_counts = np.load(DEIT / "global_token_info_0.95.npy")
    assert pruned.shape == (12, 3, 197, 197)
    shares = []
    for layer in range(12):
        for head in range(3):
            mask = ~pruned[layer, head]
            dense = np.flatnonzero(mask.sum(axis=0) > 50)
            assert len(dense) == published_counts[layer, head]
            right = product_right_of_dense(mask, dense)
            assert right == right_of_dense(mask, dense)
            if head == 0:
                shares.append(right / (197 * (197 - len(dense))))
    assert np.mean(shares) == pytest.approx(0.03630901957304232, rel=1e-12)
