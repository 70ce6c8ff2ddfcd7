"""The cycle model of ViTCoD against its functional twin, closed forms and laws."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.accelerators.named import open_accelerator
from simulator.accelerators.vitcod import cycle as vitcod
from simulator.accelerators.vitcod import tiling as vitcod_tiling
from simulator.accelerators.vitcod.shapes import shapes_of
from simulator.accelerators.vitcod.spec import VitcodSpec
from simulator.cycles import Infeasible
from simulator.engine import run
from simulator.machine.port import Port
from simulator.simulate import simulate_layers
from simulator.statistics import Statistics
from simulator.tiling.search import NEAR
from simulator.work import Work
from validation.twins.vitcod import Bus, assert_agrees, parse_mapping, twin_of
from workloads import BundleHeader, PackedMask
from workloads.bundle import LayerEntry
from workloads.conditions import Conditions
from workloads.errors import UserError
from workloads.operations import linears_in_memory

SMALL = ["array.width=4", "array.height=3", "buffers.weight_kib=2", "buffers.index_kib=0.5", "buffers.output_kib=0.25",
         "buffers.activation_kib=0.5", "dram.bandwidth_gbps=2.5"]  # fmt: skip


def work_of(kept: np.ndarray, tokens: int = 1, weight_bits: int | None = None, group_size: int | None = None) -> Work:
    return Work(*kept.shape, int(kept.sum()), tokens, weight_bits, group_size)


def gathered(spec: VitcodSpec, kept: np.ndarray) -> Statistics:
    return Statistics(vitcod.Vitcod.of(spec).gather(PackedMask.from_dense(kept), dict))


def simulate(
    kept: np.ndarray, sets: list[str], tokens: int = 1, weight_bits: int | None = None, group_size: int | None = None
):
    spec = open_accelerator("vitcod", sets).spec
    return vitcod.Vitcod.of(spec).evaluate(work_of(kept, tokens, weight_bits, group_size), gathered(spec, kept)), spec


def random_mask(seed: int, rows: int, cols: int, density: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    column_density = np.clip(density * rng.uniform(0, 2, cols), 0, 1)  # some columns dense enough for the denser engine
    return rng.random((rows, cols)) < column_density


LIMITED = ["buffers.weight_bytes_per_cycle=3", "buffers.index_bytes_per_cycle=0.5",
           "buffers.activation_bytes_per_cycle=5",
           "buffers.output_bytes_per_cycle=2.5"]  # fmt: skip


@pytest.mark.parametrize("metadata", ["bitmap", "coordinate"])
@pytest.mark.parametrize("machine", [[], ["buffers.double=false"], LIMITED, [*LIMITED, "buffers.ports=1"],
    ["buffers.double=false", *LIMITED]],
                         ids=["plain", "single", "narrow", "narrow-one-port", "narrow-single"])  # fmt: skip
@pytest.mark.parametrize(
    ("rows", "cols", "density", "tokens", "group_size"),
    [
        (10, 150, 0.5, 1, None),
        (13, 64, 0.9, 3, 32),
        (4, 200, 0.1, 1, 100),
        (9, 130, 0.6, 7, 64),
        (1, 1, 1.0, 1, None),
        (21, 70, 0.0, 2, 16),
    ],
)
def test_agrees_with_the_functional_twin_to_the_cycle(rows, cols, density, tokens, group_size, machine, metadata):
    kept = random_mask(rows * cols, rows, cols, density)
    outcome, spec = simulate(kept, [*SMALL, f"engines.metadata={metadata}", *machine], tokens, 5, group_size)
    work = work_of(kept, tokens, 5, group_size)
    assert_agrees(outcome.sparse, twin_of(spec, kept, outcome.sparse.mapping, work))
    full = np.ones_like(kept)
    assert_agrees(outcome.dense, twin_of(spec, full, outcome.dense.mapping, work_of(full, tokens, 5, group_size)))


def test_bursts_and_turnarounds_agree_with_the_twin(monkeypatch):
    port = Port(bytes_per_cycle=5.0, burst_bytes=64, turnaround_cycles=7, store_share=0.5)
    monkeypatch.setattr(vitcod_tiling, "port_of", lambda dram, clock_mhz: port)
    kept = random_mask(5, 14, 200, 0.5)
    for tokens in (1, 5):
        outcome, spec = simulate(kept, SMALL, tokens)
        twin = twin_of(spec, kept, outcome.sparse.mapping, work_of(kept, tokens), Bus(5.0, 64, 7, store_share=0.5))
        assert_agrees(outcome.sparse, twin)


def test_a_named_device_takes_its_port():
    """The same layer waits longer for one channel of DDR4 than for twelve."""
    kept = random_mask(5, 128, 512, 0.5)
    one, many = (simulate(kept, ["dram.device=DDR4-3200", f"dram.channels={n}"])[0].sparse for n in (1, 12))
    assert one.total_bytes == pytest.approx(many.total_bytes, rel=0.1)
    assert one.transfer_cycles > 8 * many.transfer_cycles
    for layer in (one, many):
        assert layer.transfer_cycles == layer.stream.total(layer.stream.load) + layer.stream.total(layer.stream.store)


def test_a_mask_with_two_kinds_of_columns_uses_both_engines():
    kept = np.zeros((64, 128), dtype=bool)
    kept[:, :64] = True
    kept[::8, 64:] = True
    outcome, spec = simulate(kept, ["array.width=8", "array.height=4"], tokens=4)
    mapping = parse_mapping(outcome.sparse.mapping)
    assert mapping.n_dense == 64
    assert 0 < mapping.dense_lanes < 8
    assert_agrees(outcome.sparse, twin_of(spec, kept, outcome.sparse.mapping, work_of(kept, 4)))


def test_a_billion_tokens_take_no_longer_than_a_thousand():
    """Far from steady state nothing changes but the number of passes: cycles grow in proportion."""
    kept = random_mask(1, 64, 128, 0.5)
    few, many = (simulate(kept, SMALL, tokens)[0].sparse.cycles for tokens in (2**12, 2**30))
    assert many / 2**18 == pytest.approx(few, rel=0.01)


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
    outcome, _ = simulate(kept, SMALL, tokens)
    found = outcome.sparse
    assert found.cycles == found.compute_cycles + found.stall_cycles
    assert found.compute_cycles == pytest.approx(found.ideal_cycles + found.imbalance_cycles)
    assert found.ideal_cycles == kept.sum() * tokens / 12
    assert found.imbalance_cycles >= 0
    assert found.stall_cycles >= 0
    assert found.cycles >= found.transfer_cycles >= found.total_bytes / (2.5e3 / 500) - 1e-9
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
    spec = open_accelerator("vitcod", ["engines.dense_thresholds=[1.0]"]).spec
    (shapes,) = shapes_of(spec, gathered(spec, kept), work_of(kept))
    assert {shapes[i].tile_words for i in range(len(shapes))} == set(range(1, 11))
    assert {shapes[i].tile_rows for i in range(len(shapes))} == {64, 128}


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


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize(
    ("key", "need_bytes"),
    [("weight_kib", 64 * 64), ("index_kib", 64 * 64 // 8), ("output_kib", 64 * 4), ("activation_kib", 64)],
)
def test_a_tile_that_does_not_fit_names_the_buffer_and_the_bound(key, need_bytes, double):
    """Fits at exactly twice the need (single buffers: at the need), not one byte below."""
    kept = np.ones((64, 128), dtype=bool)  # two column tiles, so that the inputs cannot take the whole buffer
    kept[::2] = False  # half kept, so a bitmap is needed; weights: 32 rows x 64
    need = need_bytes // 2 if key == "weight_kib" else need_bytes
    halves = 2 if double else 1
    sets = ["engines.dense_thresholds=[1.0]", f"buffers.double={str(double).lower()}"]
    fitting = open_accelerator("vitcod", [*sets, f"buffers.{key}={need * halves / 1024}"]).spec
    small = open_accelerator("vitcod", [*sets, f"buffers.{key}={(need - 1) * halves / 1024}"]).spec
    work, statistics = work_of(kept, 2), gathered(fitting, kept)
    assert vitcod.Vitcod.of(fitting).layer(work, statistics).cycles > 0
    with pytest.raises(Infeasible) as refused:
        vitcod.Vitcod.of(small).layer(work, statistics)
    refusal = refused.value.refusal
    assert refusal.resource == f"{'half of ' if double else ''}buffers.{key}"
    assert (refusal.need, refusal.bound) == (need, need - 1)


def test_scales_take_their_share_of_the_weight_buffer():
    """64 rows x 64 weights of 4 bits, and a 16-bit scale and a 4-bit zero point for each 16 of them."""
    kept = np.ones((64, 64), dtype=bool)
    need = 64 * 64 // 2 + 64 * 4 * 20 // 8
    spec = [
        open_accelerator("vitcod", ["engines.dense_thresholds=[1.0]", f"buffers.weight_kib={n / 512}"]).spec
        for n in (need, need - 1)
    ]
    statistics = gathered(spec[0], kept)
    assert vitcod.Vitcod.of(spec[0]).layer(work_of(kept, 1, 4, 16), statistics).scale_bytes == 640
    with pytest.raises(Infeasible, match=rf"needs {need:,} B in half of buffers\.weight_kib"):
        vitcod.Vitcod.of(spec[1]).layer(work_of(kept, 1, 4, 16), statistics)
    assert vitcod.Vitcod.of(spec[1]).layer(work_of(kept, 1, 4, None), statistics).scale_bytes == 64 * 20 // 8


def test_a_layer_that_does_not_fit_is_a_row_with_its_reason():
    kept = PackedMask.dense(64, 64)
    entry = LayerEntry("a", "q", 0, 64, 64, "unstructured", 4096, None, kept.sha256(), "")
    target = open_accelerator("vitcod", ["buffers.weight_kib=1"])
    (row,) = simulate_layers([target], BundleHeader("m", "x"), linears_in_memory([(entry, kept)]), Conditions(1))
    assert not row["feasible"]
    assert "buffers.weight_kib" in row["reason"]
    assert "cycles" not in row


@pytest.mark.parametrize(
    ("sets", "mapping"),
    [
        (["mapping.tile_rows=192"], "tile 192x"),
        (["mapping.tile_cols=192"], "x192x"),
        (
            ["mapping.tile_rows=128", "mapping.tile_cols=64", "mapping.tile_tokens=3", "mapping.order=tokens-outer"],
            "tile 128x64x3,",
        ),
        (
            ["mapping.tile_rows=6400", "mapping.tile_cols=6400", "mapping.tile_tokens=99"],
            "tile 320x640x5,",
        ),  # as much as there is
    ],
)
def test_a_mapping_can_be_asked_for(sets, mapping):
    kept = random_mask(1, 300, 600, 0.5)
    roomy = [f"buffers.{name}_kib=1000" for name in ("weight", "index", "activation", "output")]
    outcome, _ = simulate(kept, [*roomy, *sets], tokens=5)
    assert mapping in outcome.sparse.mapping
    assert mapping in outcome.dense.mapping
    free, _ = simulate(kept, roomy, tokens=5)
    assert free.sparse.cycles <= outcome.sparse.cycles * (1 + NEAR)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("mapping.tile_rows=32", r"tile_rows = 32 is no multiple of 64"),
        ("mapping.tile_cols=96", r"tile_cols = 96 is no multiple of 64"),
        ("mapping.order=rows-outer", r"mapping\.order = rows-outer"),
    ],
)
def test_a_mapping_it_cannot_have_is_a_mistake(override, said):
    with pytest.raises(UserError, match=said) as error:
        simulate(np.ones((64, 64), dtype=bool), [override])
    assert "\n" not in str(error.value)


def test_an_asked_mapping_that_does_not_fit_says_so():
    with pytest.raises(Infeasible, match=r"that mapping\.\* allows, 128 outputs x 640 inputs x 1 token,") as refused:
        simulate(
            np.ones((128, 640), dtype=bool),
            ["mapping.tile_rows=128", "mapping.tile_cols=640", "engines.dense_thresholds=[0.5]"],
        )
    refusal = refused.value.refusal
    assert (refusal.resource, refusal.need) == ("half of buffers.weight_kib", 81920)


def test_further_designs_agree_with_first_ones():
    """What is kept with the statistics depends on nothing that may differ: the order of designs changes no figure."""
    kept = random_mask(2, 200, 400, 0.5)
    designs = [[], ["array.height=16"], ["engines.metadata=coordinate"], ["buffers.weight_kib=9"],
               ["number.weight_bits=4"],
               ["dram.bandwidth_gbps=3"], ["buffers.double=false"], ["mapping.tile_cols=128"],
               ["number.scale_bits=32"]]  # fmt: skip
    specs = [open_accelerator("vitcod", sets).spec for sets in designs]
    shared = gathered(specs[0], kept)
    work = work_of(kept, 3, 4, 32)
    for spec in [*specs, *reversed(specs)]:
        assert vitcod.Vitcod.of(spec).layer(work, shared) == vitcod.Vitcod.of(spec).layer(work, gathered(spec, kept))


def test_what_energy_and_traces_are_made_from():
    kept = random_mask(4, 100, 300, 0.5)
    outcome, spec = simulate(kept, [], tokens=5)
    for layer, macs in ((outcome.sparse, int(kept.sum()) * 5), (outcome.dense, kept.size * 5)):
        assert layer.actions.macs == macs
        assert layer.actions.macs + layer.actions.idle_macs == layer.compute_cycles * spec.macs
        assert layer.actions.dram_bits == 8 * layer.total_bytes
        if layer.stream is None:
            assert layer is outcome.dense  # one of many baselines that are kept; none is traced
            continue
        assert run(layer.stream, double=True) == layer.cycles
        assert layer.stream.total(layer.stream.compute) == layer.compute_cycles
