"""highlight: pairs against a slow search, closed forms of every pair, masks that break one, exact metadata."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.accelerators.nm import highlight
from simulator.accelerators.nm.patterns import holds_ranks
from simulator.machine.spec import load_spec
from simulator.statistics import Statistics
from simulator.work import Work
from validation.twins.highlight import best_pair, follows, holds
from workloads import PackedMask
from workloads.errors import UserError

load = partial(load_spec, "highlight", highlight.HighlightSpec)
SPEC = load()
PAIRS = [(inner, outer) for inner in range(4, 9) for outer in range(2, 5)]
every_pair = pytest.mark.parametrize("pair", PAIRS)


def evaluate(kept: np.ndarray, tokens: int, sets: tuple[str, ...] = ()):
    spec, mask = load(sets), PackedMask.from_dense(kept)
    statistics = Statistics(highlight.Highlight.of(spec).gather(mask, dict))
    return highlight.Highlight.of(spec).evaluate(Work(mask.rows, mask.cols, mask.nnz, tokens), statistics)


def full_pair(rows: int, runs: int, pair: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Every run keeps 2 of its blocks, each of them 4 weights, at random places."""
    inner, outer = pair
    rng = np.random.default_rng(seed)
    blocks = rng.random((rows, runs, outer, 1)).argsort(axis=2) < 2
    places = rng.random((rows, runs, outer, inner)).argsort(axis=3) < 4
    return (blocks & places).reshape(rows, runs * outer * inner)


@every_pair
def test_every_pair_runs_at_its_rate(pair):
    """A whole number of runs for every pair and for the dense machine."""
    inputs = 840 * 12
    kept = full_pair(128, inputs // (pair[0] * pair[1]), pair)
    found = evaluate(kept, 5)
    assert found.sparse.compute_cycles == 5 * inputs // (pair[0] * pair[1])
    assert found.dense.compute_cycles == 5 * inputs // 8
    assert found.sparse.ideal_cycles == found.sparse.compute_cycles  # every slot is filled
    if pair == (4, 2):
        assert found.sparse.mapping.startswith("dense")
    else:
        assert found.sparse.mapping.startswith(f"4:{pair[0]} in blocks x 2:{pair[1]} of blocks")


@every_pair
def test_metadata_to_the_bit(pair):
    kept = full_pair(128, 64, pair)
    found = evaluate(kept, 1).sparse
    inner, outer = pair
    bits = (8 * math.ceil(math.log2(inner)) if inner > 4 else 0) + (2 * math.ceil(math.log2(outer)) if outer > 2 else 0)
    assert found.metadata_bytes == 128 * 64 * bits // 8
    assert found.weight_bytes == 128 * 64 * 8 * 2


@given(
    rows=st.integers(1, 4),
    cols=st.integers(1, 200),
    pair=st.sampled_from(PAIRS),
    density=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    thin=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=100)
def test_pairs_hold_as_a_slow_reading_says(rows, cols, pair, density, thin, seed):
    kept = np.random.default_rng(seed).random((rows, cols)) < density
    kept = follows(kept) if thin else kept
    mask = PackedMask.from_dense(kept)
    assert holds_ranks(mask.words, cols, 4, pair[0], 2, pair[1]) == holds(SPEC, kept, *pair)
    assert tuple(highlight.Highlight.of(SPEC).gather(mask, dict)["pair"]) == best_pair(SPEC, kept)


@pytest.mark.parametrize("block", [1, 17, 63, 64])
def test_blocks_across_words(block):
    """A block that keeps all of its inputs is over, one input less is not."""
    for length in (block, block + 1, 3 * block + 5, 300):
        mask = PackedMask.from_dense(np.ones((1, length), bool))
        runs = -(-length // block)
        assert holds_ranks(mask.words, length, block, block, runs, runs)
        if length >= block and block > 1:
            assert not holds_ranks(mask.words, length, block - 1, block, runs, runs)


def test_one_weight_too_many_costs_the_pair():
    kept = full_pair(128, 32, (8, 4))
    found = evaluate(kept, 1)
    assert found.dense.compute_cycles == 4 * found.sparse.compute_cycles
    over = kept.copy()
    run = over[5, 64:96].reshape(4, 8)
    run[run.any(axis=1).argmax()] = True  # a whole block: only 4:4 holds it
    broken = evaluate(over, 1)
    assert broken.sparse.mapping.split(",")[0] != found.sparse.mapping.split(",")[0]
    assert broken.sparse.compute_cycles > found.sparse.compute_cycles


def test_two_of_four_runs_twice_as_fast():
    order = np.random.default_rng(1).random((128, 64, 4)).argsort(axis=2)
    found = evaluate((order < 2).reshape(128, 256), 3)
    assert found.dense.compute_cycles == 2 * found.sparse.compute_cycles


def test_unstructured_masks_run_dense_and_say_so():
    found = evaluate(np.random.default_rng(2).random((256, 512)) < 0.5, 3)
    assert found.sparse.compute_cycles == found.dense.compute_cycles
    assert found.sparse.weight_bytes == found.dense.weight_bytes
    assert found.sparse.metadata_bytes == 0
    assert found.sparse.mapping.startswith("dense: no sparser pair")


def test_swapped_ranks():
    """2:4 in blocks and 4:8 of blocks: a quarter of the slots for the swapped machine, half for the usual one."""
    swapped = ("array.inner_n=2", "array.inner_most=4", "array.outer_n=4", "array.outer_most=8")
    kept = np.zeros((128, 8, 8, 4), bool)
    kept[:, :, ::2, 1:3] = True
    found = evaluate(kept.reshape(128, 256), 1, swapped)
    assert found.dense.compute_cycles == 4 * found.sparse.compute_cycles
    assert found.sparse.mapping.startswith("2:4 in blocks x 4:8 of blocks")
    usual = evaluate(kept.reshape(128, 256), 1)  # 4:8 x 2:2 and 4:4 x 2:4 hold it, and none of fewer slots
    assert usual.dense.compute_cycles == 2 * usual.sparse.compute_cycles


def test_an_empty_mask_takes_the_sparsest_pair():
    found = evaluate(np.zeros((3, 70), bool), 2).sparse
    assert found.compute_cycles == 2 * math.ceil(70 / 32)
    assert found.ideal_cycles == 0


@pytest.mark.parametrize("setting", ["array.inner_most=3", "array.inner_most=65", "array.outer_most=1"])
def test_ranges_that_no_hardware_has(setting):
    with pytest.raises(UserError, match=setting.split("=")[0].replace(".", r"\.")):
        evaluate(np.ones((4, 64), bool), 1, (setting,))
