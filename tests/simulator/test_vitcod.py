"""The cycle model of ViTCoD against its functional twin, closed forms and laws."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.accelerators.vitcod import splits
from simulator.accelerators.vitcod_tiling import NEAR, best_mapping, tile_shapes
from simulator.cycles import Infeasible
from simulator.pipeline import double_buffered, end_of, walk
from simulator.simulate import open_target, simulate_layers
from tests.simulator.vitcod_twin import parse_mapping, run_twin, slow_double_buffer
from workloads import BundleHeader, PackedMask
from workloads.bundle import LayerEntry

SMALL = ["array.width=4", "array.height=3", "buffers.weight_kib=2", "buffers.index_kib=0.5", "buffers.output_kib=0.25",
         "buffers.activation_kib=0.5", "dram.bandwidth_gbps=2.5"]  # fmt: skip


def simulate(kept: np.ndarray, sets: list[str], tokens: int = 1, weight_bits: int | None = None):
    target = open_target("vitcod", sets)
    return target.model.simulate(target.spec, PackedMask.from_dense(kept), tokens, weight_bits), target.spec


def random_mask(seed: int, rows: int, cols: int, density: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    column_density = np.clip(density * rng.uniform(0, 2, cols), 0, 1)  # some columns dense enough for the denser engine
    return rng.random((rows, cols)) < column_density


@pytest.mark.parametrize("metadata", ["bitmap", "coordinate"])
@pytest.mark.parametrize(
    ("rows", "cols", "density", "tokens"),
    [(10, 150, 0.5, 1), (13, 64, 0.9, 3), (4, 200, 0.1, 1), (9, 130, 0.6, 7), (1, 1, 1.0, 1), (21, 70, 0.0, 2)],
)
def test_agrees_with_the_functional_twin_to_the_cycle(rows, cols, density, tokens, metadata):
    kept = random_mask(rows * cols, rows, cols, density)
    outcome, spec = simulate(kept, [*SMALL, f"engines.metadata={metadata}"], tokens, weight_bits=5)
    rng = np.random.default_rng(1)
    weights, inputs = rng.integers(-50, 50, (rows, cols)), rng.integers(-50, 50, (tokens, cols))
    twin = run_twin(spec, weights, kept, inputs, parse_mapping(outcome.sparse.mapping), weight_bits=5)
    assert (twin.outputs == inputs @ (weights * kept).T).all()
    assert (twin.uses == kept * tokens).all()
    found = outcome.sparse
    assert (found.cycles, found.compute_cycles) == (twin.cycles, twin.compute_cycles)
    assert found.weight_bytes == twin.weight_bytes
    assert found.metadata_bytes == twin.metadata_bytes
    assert found.activation_bytes == twin.activation_bytes
    assert found.output_bytes == twin.output_bytes


def test_a_mask_with_two_kinds_of_columns_uses_both_engines():
    kept = np.zeros((64, 128), dtype=bool)
    kept[:, :64] = True
    kept[::8, 64:] = True
    outcome, spec = simulate(kept, ["array.width=8", "array.height=4"], tokens=4)
    mapping = parse_mapping(outcome.sparse.mapping)
    assert mapping.n_dense == 64
    assert 0 < mapping.dense_lanes < 8
    weights, inputs = np.ones((64, 128), dtype=int), np.arange(4 * 128).reshape(4, 128)
    twin = run_twin(spec, weights, kept, inputs, mapping, weight_bits=8)
    assert twin.cycles == outcome.sparse.cycles
    assert (twin.outputs == inputs @ kept.T.astype(int)).all()


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 12), st.sampled_from([0, 0, 1, 4, 9])), min_size=1, max_size=14
    )
)
def test_double_buffering_equals_a_stepped_clock(tiles):
    load, compute, store = (np.array(column, dtype=np.int64) for column in zip(*tiles, strict=True))
    assert double_buffered(load, compute, store) == slow_double_buffer(load.tolist(), compute.tolist(), store.tolist())


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 12), st.sampled_from([0, 0, 1, 4, 9])), min_size=1, max_size=6
    ),
    st.integers(1, 30),
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.sampled_from([0, 3])), max_size=4),
)
def test_repeated_passes_are_added_up_exactly(tiles, times, rest):
    """A steady pass is not walked again; the total must be that of walking every one of them."""
    columns = [np.array(column, dtype=np.int64) for column in zip(*tiles, strict=True)]
    tail = (
        [np.array(column, dtype=np.int64) for column in zip(*rest, strict=True)]
        if rest
        else [np.zeros(0, dtype=np.int64)] * 3
    )
    state = np.zeros(5, dtype=np.int64)
    walk(*columns, times, state)
    walk(*tail, 1, state)
    whole = [np.concatenate([*([column] * times), end]) for column, end in zip(columns, tail, strict=True)]
    assert end_of(state) == slow_double_buffer(*(part.tolist() for part in whole))


def test_a_billion_tokens_take_no_longer_than_a_thousand():
    """Far from steady state nothing changes but the number of passes: cycles grow in proportion."""
    kept = random_mask(1, 64, 128, 0.5)
    few, many = (simulate(kept, SMALL, tokens)[0].sparse.cycles for tokens in (2**12, 2**30))
    assert many / 2**18 == pytest.approx(few, rel=0.01)


def test_double_buffering_closed_forms():
    tiles = 10
    load, compute, none = np.full(tiles, 5), np.full(tiles, 20), np.zeros(tiles, dtype=np.int64)
    assert double_buffered(load, compute, none) == 5 + 200  # compute bound: only the first load is seen
    assert double_buffered(compute, load, none) == 200 + 5  # memory bound: only the last compute is seen


@pytest.mark.parametrize(("rows", "cols", "tokens"), [(64, 64, 1), (100, 300, 1), (4096, 4096, 1), (130, 4096, 100)])
def test_dense_layer_is_its_closed_form(rows, cols, tokens):
    """Every lane gets rows / width outputs, every output cols / height cycles; 64 divides 64-column tiles."""
    outcome, _ = simulate(np.ones((rows, cols), dtype=bool), [], tokens)
    assert outcome.dense.compute_cycles == math.ceil(rows / 64) * math.ceil(cols / 64) * tokens
    assert outcome.dense.weight_bytes % (rows * cols) == 0  # one byte a weight, once or more often
    assert outcome.dense.weight_bytes == rows * cols or tokens > 1
    assert outcome.dense.metadata_bytes == 0
    assert outcome.dense.cycles >= outcome.dense.total_bytes / 153.6


def test_a_mask_that_keeps_all_is_the_dense_layer():
    outcome, _ = simulate(np.ones((200, 500), dtype=bool), [], tokens=3)
    assert dataclasses.replace(outcome.sparse, mapping="") == dataclasses.replace(outcome.dense, mapping="")


def test_two_of_four_computes_twice_as_fast():
    """Every row of every 64-multiple tile keeps exactly half, so no lane waits for another."""
    kept = np.tile(np.array([True, False, True, False]), (256, 1024))
    outcome, _ = simulate(kept, [], tokens=64)
    assert outcome.dense.compute_cycles == 2 * outcome.sparse.compute_cycles


def test_uneven_rows_cost_more_than_even_ones():
    even = np.tile(np.array([True, False]), (256, 256))
    uneven = np.zeros((256, 512), dtype=bool)
    uneven[::2] = True  # the same count, in every second row: half of the lanes idle
    assert simulate(uneven, [], 64)[0].sparse.compute_cycles == 2 * simulate(even, [], 64)[0].sparse.compute_cycles


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 200), st.floats(0.05, 1), st.integers(1, 9))
def test_parts_sum_to_the_whole_and_bounds_hold(seed, rows, cols, density, tokens):
    kept = random_mask(seed, rows, cols, density)
    outcome, spec = simulate(kept, SMALL, tokens)
    found = outcome.sparse
    assert found.cycles == found.compute_cycles + found.stall_cycles
    assert found.compute_cycles == pytest.approx(found.ideal_cycles + found.imbalance_cycles)
    assert found.ideal_cycles == kept.sum() * tokens / 12
    assert found.imbalance_cycles >= 0
    assert found.stall_cycles >= 0
    assert found.cycles >= found.transfer_cycles >= found.total_bytes / spec.bytes_per_cycle - 1e-9
    assert found.output_bytes == rows * tokens


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 200), st.floats(0.05, 1), st.integers(1, 5))
def test_more_bandwidth_or_buffer_is_never_slower(seed, rows, cols, density, tokens):
    kept = random_mask(seed, rows, cols, density)
    small = simulate(kept, SMALL, tokens)[0].sparse.cycles
    for better in ("dram.bandwidth_gbps=5", "buffers.weight_kib=4", "buffers.output_kib=1", "buffers.activation_kib=2"):
        assert simulate(kept, [*SMALL, better], tokens)[0].sparse.cycles <= small * (1 + NEAR)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.floats(0.05, 0.8))
def test_fewer_weights_never_compute_longer_without_the_denser_engine(seed, rows, density):
    """One tile shape only: 64 columns fit, so the comparison is not between mappings."""
    sets = ["array.width=4", "array.height=3", "engines.dense_thresholds=[1.0]"]
    kept = random_mask(seed, rows, 64, density)
    fewer = kept & (np.random.default_rng(seed + 1).random(kept.shape) < 0.7)
    assert simulate(fewer, sets)[0].sparse.compute_cycles <= simulate(kept, sets)[0].sparse.compute_cycles


def test_permuting_rows_of_one_lane_changes_nothing():
    kept = random_mask(3, 256, 256, 0.5)
    swapped = kept.copy()
    swapped[[0, 64]] = kept[[64, 0]]  # rows 0 and 64 share lane 0 of 64
    sets = ["engines.dense_thresholds=[1.0]", "buffers.weight_kib=1024", "buffers.index_kib=1024"]
    assert simulate(kept, sets)[0].sparse == simulate(swapped, sets)[0].sparse


def expected_maximum(cols: int) -> float:
    """E[max] over 64 lanes of ceil(Binomial(cols, 1/2) / 64), from the exact distribution."""
    cdf = np.cumsum([math.comb(cols, k) / 2**cols for k in range(cols + 1)])
    return sum(1 - cdf[min(64 * cycles, cols)] ** 64 for cycles in range(cols // 64 + 1))


def test_lane_maxima_match_order_statistics_of_binomials():
    """Random rows at 50 %, one row a lane: a tile takes the largest of 64 lane counts."""
    kept = np.random.default_rng(0).random((64 * 40, 512)) < 0.5
    outcome, _ = simulate(kept, ["engines.dense_thresholds=[1.0]", "dram.bandwidth_gbps=1e6"])
    mapping = parse_mapping(outcome.sparse.mapping)
    assert mapping.tile_rows == 64
    widths = [min(mapping.tile_cols, 512 - start) for start in range(0, 512, mapping.tile_cols)]
    expected = 40 * sum(expected_maximum(width) for width in widths)
    assert outcome.sparse.compute_cycles == pytest.approx(expected, rel=0.02)


def test_no_tile_width_of_whole_words_is_better():
    """The search skips none of the widths that fit here."""
    kept = np.random.default_rng(0).random((128, 640)) < 0.5
    target = open_target("vitcod", ["engines.dense_thresholds=[1.0]"])
    split = next(splits(target.spec, PackedMask.from_dense(kept)))
    found = {tiles.tile_words for tiles in tile_shapes(target.spec, split, 8)}
    assert found == set(range(1, 11))


def test_a_threshold_that_does_not_fit_leaves_the_others():
    """No room for a bitmap, so only the division without metadata, all columns dense, can run."""
    kept = np.zeros((64, 64), dtype=bool)
    kept[:40] = True
    outcome, _ = simulate(kept, ["buffers.index_kib=0.1", "engines.dense_thresholds=[1.0, 0.5]"])
    assert parse_mapping(outcome.sparse.mapping).n_dense == 64
    assert outcome.sparse.metadata_bytes == 0


def test_a_single_lane_runs_every_threshold():
    kept = np.zeros((8, 128), dtype=bool)
    kept[:, :64] = True
    kept[0, 64:] = True
    outcome, _ = simulate(kept, ["array.width=1", "engines.dense_thresholds=[0.5]"])
    assert parse_mapping(outcome.sparse.mapping).dense_lanes == 0
    assert (
        outcome.sparse.compute_cycles == 8 + 1
    )  # 64 kept a cycle: one for each row's first half, one for row 0's second


def test_four_bit_weights_move_half_the_bytes():
    kept = np.ones((128, 256), dtype=bool)
    assert simulate(kept, [], 1, 4)[0].sparse.weight_bytes * 2 == simulate(kept, [], 1, 8)[0].sparse.weight_bytes
    assert simulate(kept, [], 1, 16)[0].sparse.weight_bytes == simulate(kept, [], 1, None)[0].sparse.weight_bytes


def test_nothing_kept_takes_no_compute():
    outcome, _ = simulate(np.zeros((70, 70), dtype=bool), [])
    assert outcome.sparse.compute_cycles == 0
    assert outcome.sparse.weight_bytes == 0


@pytest.mark.parametrize(
    ("key", "need_bytes"),
    [("weight_kib", 64 * 64), ("index_kib", 64 * 64 // 8), ("output_kib", 64 * 4), ("activation_kib", 64)],
)
def test_a_tile_that_does_not_fit_names_the_buffer_and_the_bound(key, need_bytes):
    """Fits at exactly twice the need (double buffering), not one byte below."""
    kept = np.ones((64, 64), dtype=bool)
    kept[::2] = False  # half kept, so a bitmap is needed; weights: 32 rows x 64
    need = need_bytes // 2 if key == "weight_kib" else need_bytes
    sets = ["engines.dense_thresholds=[1.0]"]
    target = open_target("vitcod", sets)
    split = next(splits(target.spec, PackedMask.from_dense(kept)))
    fitting = open_target("vitcod", [*sets, f"buffers.{key}={need / 512}"]).spec
    small = open_target("vitcod", [*sets, f"buffers.{key}={(need - 1) / 512}"]).spec
    assert best_mapping(fitting, split, 2, 8).cycles > 0
    with pytest.raises(Infeasible, match=rf"needs {need:,} B in half of buffers\.{key}"):
        best_mapping(small, split, 2, 8)


def test_a_layer_that_does_not_fit_is_a_row_with_its_reason():
    kept = PackedMask.dense(64, 64)
    entry = LayerEntry("a", "q", 0, 64, 64, "unstructured", 4096, None, kept.sha256(), "")
    target = open_target("vitcod", ["buffers.weight_kib=1"])
    (row,) = simulate_layers(target, BundleHeader("m", "x"), [(entry, kept)], tokens=1)
    assert not row["feasible"]
    assert "buffers.weight_kib" in row["reason"]
    assert "cycles" not in row
