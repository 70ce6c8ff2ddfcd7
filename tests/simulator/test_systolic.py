"""Systolic arrays: SCALE-Sim's count, the twin, the stream of tiles against a slow loop nest, the mapper, N:M."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.accelerators.systolic import cycle as systolic
from simulator.accelerators.systolic import mapper as systolic_mapper
from simulator.accelerators.systolic.mapper import best_plan
from simulator.accelerators.systolic.stream import Fabric, Gemm, Plan, tiles_of
from simulator.cycles import Infeasible, LayerCycles
from simulator.engine import Stream, run
from simulator.machine.port import Port, port_of
from simulator.machine.spec import load_spec
from simulator.statistics import Statistics
from simulator.tiling.search import NEAR
from simulator.work import Work
from validation.twins.systolic import dense_compute, run_layer
from validation.twins.systolic_stream import slow_moving, slow_standing
from workloads import PackedMask
from workloads.errors import UserError

quick = settings(max_examples=60, deadline=None)
flows = st.sampled_from(["ws", "os", "is"])
arrays = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3))


def spec_of(*sets: str, name: str = "systolic") -> systolic.SystolicSpec:
    return load_spec(name, systolic.SystolicSpec, sets)


def array_sets(array: tuple[int, int, int], dataflow: str) -> list[str]:
    return [f"array.rows={array[0]}", f"array.cols={array[1]}", f"array.count={array[2]}", f"array.dataflow={dataflow}"]


def layer_of(spec, kept: np.ndarray, tokens: int, bits: int | None = None, group: int | None = None) -> LayerCycles:
    mask = PackedMask.from_dense(kept)
    statistics = Statistics(systolic.Systolic.of(spec).gather(mask, dict))
    work = Work(mask.rows, mask.cols, mask.nnz, tokens, bits, group)
    return systolic.Systolic.of(spec).evaluate(work, statistics).sparse


def full(spec, rows: int, cols: int, tokens: int, bits: int | None = None, group: int | None = None) -> LayerCycles:
    work = Work(rows, cols, rows * cols, tokens, bits, group)
    return systolic.Systolic.of(spec).evaluate(work, Statistics(systolic.Systolic.of(spec).dense(rows, cols))).sparse


# --- cycles of the array


@given(
    array=arrays,
    dataflow=flows,
    n=st.integers(1, 70),
    k=st.integers(1, 90),
    m=st.integers(1, 40),
    kib=st.floats(0.01, 4),
    double=st.booleans(),
)
@quick
def test_cycles_are_scale_sims_whatever_the_buffers(array, dataflow, n, k, m, kib, double):
    sets = [f"buffers.{b}_kib={kib}" for b in ("weight", "index", "activation", "output")]
    spec = spec_of(
        *array_sets(array, dataflow), *sets, f"buffers.double={str(double).lower()}", "dram.bandwidth_gbps=3"
    )
    try:
        found = full(spec, n, k, m)
    except Infeasible:
        return
    assert found.compute_cycles == dense_compute(spec, n, k, m)
    assert found.stall_cycles >= 0


@pytest.mark.parametrize(
    ("dataflow", "cycles"),
    [
        ("ws", 4 * 2 * (2 * 16 + 32 + 40 - 2) - 1),  # K = 60: 4 folds of 16; N = 50: 2 of 32
        ("os", 3 * 2 * (60 + 16 + 32 - 2) - 1),
        ("is", 4 * 2 * (2 * 16 + 32 + 50 - 2) - 1),
    ],
)
def test_a_case_worked_out_by_hand(dataflow, cycles):
    spec = spec_of("array.rows=16", "array.cols=32", f"array.dataflow={dataflow}")
    assert full(spec, 50, 60, 40).compute_cycles == cycles


@given(array=arrays, dataflow=st.sampled_from(["ws", "os", "is", "2:4", "1:3"]), n=st.integers(1, 20),
    k=st.integers(1, 30), m=st.integers(1, 8), seed=st.integers(0, 99))  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_twin_agrees_to_the_cycle(array, dataflow, n, k, m, seed):
    rng = np.random.default_rng(seed)
    kept = rng.random((n, k)) < 0.6
    sets = array_sets(array, dataflow if ":" not in dataflow else "ws")
    if ":" in dataflow:
        kept = first_of(kept, *(int(part) for part in dataflow.split(":"))) if seed % 4 else kept
        sets.append(f"array.nm={dataflow}")
    spec = spec_of(*sets)
    weights, inputs = rng.integers(-9, 10, (n, k)), rng.integers(-9, 10, (m, k))
    twin = run_layer(spec, weights, kept, inputs)
    assert np.array_equal(twin.outputs, inputs @ (weights * kept).T)
    assert np.array_equal(twin.uses, kept * m)
    assert layer_of(spec, kept, m).compute_cycles == twin.cycles


def first_of(kept: np.ndarray, n: int, m: int) -> np.ndarray:
    """The first n kept of every run of m stay."""
    result = kept.copy()
    for row in result:
        for start in range(0, len(row), m):
            row[start + np.flatnonzero(row[start : start + m])[n:]] = False
    return result


def test_zeros_even_whole_rows_and_columns_change_nothing_but_the_ideal():
    spec = spec_of("array.rows=8", "array.cols=8")
    kept = np.ones((64, 96), bool)
    dense = layer_of(spec, kept, 16)
    kept[:32], kept[:, ::2] = False, False
    pruned = layer_of(spec, kept, 16)
    assert pruned.cycles == dense.cycles
    assert pruned.total_bytes == dense.total_bytes
    assert pruned.ideal_cycles == 32 * 48 * 16 / 64
    assert pruned.actions.macs == 32 * 48 * 16


# --- the stream, against loops over folds


def expanded(stream: Stream) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    order = np.concatenate([np.tile(np.arange(start, stop), times) for start, stop, times in stream.passes])
    return stream.load[order], stream.compute[order], stream.store[order]


@st.composite
def cases(draw):
    """A GEMM, a fabric, a dataflow and any plan of it that the buffers need not allow."""
    dataflow = draw(flows)
    n, m = draw(st.sampled_from([(1, 1), (2, 4), (1, 3)])) if dataflow == "ws" else (1, 1)
    numbers = {
        "outputs": draw(st.integers(1, 40)),
        "inputs": draw(st.integers(1, 40)),
        "tokens": draw(st.integers(1, 40)),
    }
    gemm = Gemm(**numbers, n=n, m=m, weight_bits=draw(st.sampled_from([3, 8])),
                scale_bits=draw(st.sampled_from([0, 11])), group_size=draw(st.sampled_from([None, 8])),
                activation_bits=draw(st.sampled_from([8, 5])), sum_bits=20)  # fmt: skip
    fabric = Fabric(draw(st.integers(1, 7)), draw(st.integers(1, 7)), draw(st.integers(1, 30)))
    chunk = draw(st.sampled_from([1, 2, 4, 1000]))
    outer, inner = (draw(st.integers(1, 4)), draw(st.integers(1, 4))) if chunk == 1000 else (1, 1)
    length = {"ws": gemm.tokens, "is": gemm.outputs, "os": gemm.inputs}[dataflow]
    order = draw(st.sampled_from(systolic_mapper.ORDERS[dataflow]))
    spilled = dataflow != "os" and chunk < length and draw(st.booleans())
    kept = chunk >= length or draw(st.booleans())
    return gemm, fabric, dataflow, Plan(order, outer, inner, min(chunk, length), draw(st.booleans()), kept, spilled)


def check_stream(gemm: Gemm, fabric: Fabric, dataflow: str, plan: Plan) -> None:
    slow = slow_standing(gemm, fabric, plan) if dataflow == "os" else slow_moving(gemm, fabric, dataflow, plan)
    tiles = tiles_of(gemm, fabric, dataflow, plan)
    port = Port(3.7, burst_bytes=4, turnaround_cycles=2)
    load, compute, store = expanded(tiles.stream(spec_of().buffers, port))
    assert load.tolist() == port.cycles(np.array([sum(parts) for parts in slow.loads])).tolist()
    assert compute.tolist() == slow.compute
    assert store.tolist() == port.store_cycles(np.array(slow.stores)).tolist()
    for k, part in enumerate((tiles.weights, tiles.metadata, tiles.scales, tiles.inputs, tiles.sums)):
        assert tiles.total(part) == sum(parts[k] for parts in slow.loads)
    assert tiles.total(tiles.stored) == sum(slow.stores)
    assert tiles.total(tiles.compute) == sum(slow.compute)
    assert tiles.total(tiles.input_reads) == slow.input_reads
    if not gemm.scale_bits:
        assert tiles.total(tiles.weight_reads + tiles.index_reads) == slow.weight_reads
    assert tiles.total(tiles.sum_writes) == slow.sum_writes
    assert tiles.total(tiles.sum_reads) == slow.sum_reads


@given(cases())
@settings(max_examples=200, deadline=None)
def test_stream_is_that_of_the_loops(case):
    check_stream(*case)


@pytest.mark.parametrize(("outputs", "repeats"), [(5, True), (400, False)])
def test_either_chunks_or_outer_tiles_repeat(outputs, repeats):
    """Few outer tiles and many chunks, or the other way round: what is stored stays small, the stream is the same."""
    gemm = Gemm(outputs, 12, 64 if repeats else 6, 1, 1, 8, 0, None, 8, 32)
    case = gemm, Fabric(4, 4, 10), "ws", Plan("rows-outer", 1, 1, 2, False, True, True)
    check_stream(*case)
    stream = tiles_of(*case).stream(spec_of().buffers, Port(1.0))
    assert len(stream.load) < 40
    assert bool((stream.passes[:, 1] - stream.passes[:, 0] == 1).all()) == repeats


# --- the mapper


machines = st.tuples(
    arrays, flows, st.booleans(), st.sampled_from([0.5, 3.0, 30.0]),
    st.lists(st.sampled_from([0.0625, 0.25, 1.0, 16.0]), min_size=3, max_size=3),
    st.sampled_from([0, 2]),
)  # fmt: skip


def machine_of(machine) -> systolic.SystolicSpec:
    array, dataflow, double, gbps, (weight, act, out), width = machine
    return spec_of(*array_sets(array, dataflow), f"buffers.double={str(double).lower()}", f"dram.bandwidth_gbps={gbps}",
                   f"buffers.weight_kib={weight}", f"buffers.activation_kib={act}", f"buffers.output_kib={out}",
                   f"buffers.weight_bytes_per_cycle={width}",
                   f"buffers.output_bytes_per_cycle={2 * width}")  # fmt: skip


@given(
    machines,
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 40),
    st.sampled_from([(0, None), (9, None), (9, 16)]),
)
@settings(max_examples=80, deadline=None)
def test_plans_fit_bounds_hold_and_the_best_is_found(machine, n, k, m, scale):
    spec = machine_of(machine)
    dataflow = spec.array.dataflow
    gemm = Gemm(n, k, m, 1, 1, 8, *scale, 8, 32)
    fabric = Fabric(spec.array.rows, spec.array.cols * spec.array.count, 7)
    port = port_of(spec.dram, spec.clock.mhz)
    table_of = systolic_mapper.standing_table if dataflow == "os" else systolic_mapper.moving_table
    fewest = math.inf
    share = 0.5 if spec.buffers.double else 1
    for order in systolic_mapper.ORDERS[dataflow]:
        table = table_of(spec, port, gemm, fabric, dataflow, order)
        for i in np.flatnonzero((table.needs <= table.limits).all(axis=1)):
            tiles = tiles_of(gemm, fabric, dataflow, table.plan(i))
            cycles = run(tiles.stream(spec.buffers, port), spec.buffers.double)
            assert table.bound[i] <= cycles + 1e-6
            fewest = min(fewest, cycles)
            capacity = spec.buffers.capacities
            # every tile fits its share, unless all of the operand is on chip or nothing follows it
            whole = len(tiles.outer_times) == 1
            if not (whole or table.resident[i]):
                assert (tiles.weights + tiles.scales).max() <= capacity[0] * share
                assert tiles.inputs.max() <= capacity[2] * share
            assert (tiles.weights + tiles.scales).max() <= capacity[0]
            assert tiles.inputs.max() <= capacity[2]
            assert tiles.stored.max() * (1 if table.spilled[i] else 4) <= capacity[3] * (
                0.5 if table.spilled[i] else share
            )
    try:
        found = best_plan(spec, port, gemm, fabric, dataflow)
    except Infeasible:
        assert fewest == math.inf
        return
    assert fewest <= found.cycles <= fewest * (1 + NEAR)


def test_what_fits_is_moved_once():
    for dataflow in ("ws", "os", "is"):
        spec = spec_of("array.rows=16", "array.cols=16", f"array.dataflow={dataflow}")
        found = full(spec, 100, 200, 50)
        assert found.weight_bytes == 100 * 200
        assert found.activation_bytes == 200 * 50
        assert found.output_bytes == 100 * 50


@pytest.mark.parametrize(("output_bytes", "spills"), [(2 * 4 * 4 * 32, False), (2 * 4 * 4 * 32 - 1, True)])
def test_sums_spill_where_half_the_output_buffer_is_a_byte_too_small(output_bytes, spills):
    """8 outputs in 2 column groups, 12 inputs in 3 folds, 32 tokens: a group's sums are 4 * 32 * 4 B."""
    spec = spec_of("array.rows=4", "array.cols=4", f"buffers.output_kib={output_bytes / 1024!r}")
    found = full(spec, 8, 12, 32)
    assert ("sums spilled" in found.mapping) == spills
    assert found.output_bytes == 8 * 32 + spills * 2 * 2 * 8 * 32 * 4  # written and read back twice
    assert found.actions.dram_bits == 8 * found.total_bytes


@pytest.mark.parametrize(
    ("dataflow", "buffer", "need"),
    [("ws", "weight", 32 * 16), ("ws", "activation", 32), ("ws", "output", 16 * 4), ("is", "activation", 32 * 16),
    ("is", "weight", 32),
     ("os", "weight", 16), ("os", "activation", 32), ("os", "output", 32 * 16 * 4)],
)  # fmt: skip
def test_one_array_tile_must_fit_half_of_each_buffer(dataflow, buffer, need):
    sets = ["array.rows=32", "array.cols=16", f"array.dataflow={dataflow}"]
    assert full(spec_of(*sets, f"buffers.{buffer}_kib={2 * need / 1024!r}"), 200, 300, 100).cycles
    with pytest.raises(Infeasible) as refused:
        full(spec_of(*sets, f"buffers.{buffer}_kib={(2 * need - 1) / 1024!r}"), 200, 300, 100)
    refusal = refused.value.refusal
    assert (refusal.resource, refusal.need, refusal.bound) == (f"half of buffers.{buffer}_kib", need, need - 0.5)


def test_overrides_are_kept_and_wrong_ones_are_named():
    sets = ["array.rows=8", "array.cols=8"]
    found = full(spec_of(*sets, "mapping.tile_rows=16", "mapping.tile_cols=24"), 100, 100, 30)
    assert "tile 16x24x30" in found.mapping
    found = full(spec_of(*sets, "mapping.tile_tokens=10"), 100, 100, 30)
    assert "tile 8x8x10" in found.mapping
    with pytest.raises(UserError, match=r"mapping.tile_cols = 12 is no multiple of 8"):
        full(spec_of(*sets, "mapping.tile_cols=12"), 100, 100, 30)
    with pytest.raises(UserError, match=r"mapping.order = tokens-outer: dataflow ws has only rows-outer"):
        full(spec_of(*sets, "mapping.order=tokens-outer"), 100, 100, 30)
    with pytest.raises(Infeasible, match=r"mapping\.\* asks for"):
        full(spec_of(*sets, "mapping.tile_rows=16", "mapping.tile_tokens=10"), 100, 100, 30)
    orders = [
        full(spec_of(*sets, "array.dataflow=os", f"mapping.order={o}"), 100, 100, 30)
        for o in ("tokens-outer", "rows-outer", "best")
    ]
    assert orders[2].cycles <= min(order.cycles for order in orders[:2]) * (1 + NEAR)


def test_a_slow_weight_buffer_stalls():
    """One fold of 8 x 8 one-byte weights, read at a byte a cycle: 64 cycles instead of the array's 8 + 8 + 8 + 1 -
    2."""
    spec = spec_of("array.rows=8", "array.cols=8", "buffers.weight_bytes_per_cycle=1")
    found = full(spec, 8, 8, 1)
    assert (found.compute_cycles, found.buffer_cycles) == (22, 64 - 22)


# --- N:M


def test_nm_halves_the_folds_and_packs_the_weights():
    sets = ["array.rows=16", "array.cols=16", "array.nm=2:4"]
    kept = np.zeros((64, 128), bool)
    kept[:, ::2] = True
    packed, dense = (
        layer_of(spec_of(*sets), kept, 10, bits=4, group=32),
        layer_of(spec_of(*sets[:2]), kept, 10, bits=4, group=32),
    )
    assert packed.mapping.startswith("2:4, ws")
    assert packed.compute_cycles + 1 == (dense.compute_cycles + 1) / 2
    assert (dense.weight_bytes, dense.metadata_bytes) == (64 * 128 // 2, 0)
    assert (packed.weight_bytes, packed.metadata_bytes) == (64 * 64 // 2, 64 * 64 * 2 // 8)
    assert packed.scale_bytes == dense.scale_bytes == 64 * 4 * (16 + 4) // 8
    assert packed.ideal_cycles == dense.ideal_cycles


def test_one_weight_too_many_runs_dense_and_says_so():
    spec = spec_of("array.rows=16", "array.cols=16", "array.nm=2:4")
    kept = np.zeros((64, 128), bool)
    kept[:, ::2] = True
    kept[63, 127] = True
    found = layer_of(spec, kept, 10)
    assert found.mapping.startswith("dense: keeps more than 2 of 4, ws")
    assert found.cycles == full(spec_of("array.rows=16", "array.cols=16"), 64, 128, 10).cycles
    assert found.metadata_bytes == 0


def test_nm_edges():
    kept = np.ones((3, 5), bool)
    kept[:, 2:4] = False  # groups of 4 + 1 inputs: 2 + 2 slots, one of them empty
    found = layer_of(spec_of("array.rows=3", "array.cols=3", "array.nm=2:4"), kept, 2)
    assert found.compute_cycles == 2 * (2 * 3 + 3 + 2 - 2) - 1
    assert (found.weight_bytes, found.metadata_bytes) == (3 * 3 + 3, 3 + 1)
    # folds of 3 and 1 slots share the second group's input where they are tiles of their own
    alone = layer_of(spec_of("array.rows=3", "array.cols=3", "array.nm=2:4", "buffers.weight_kib=0.02"), kept, 2)
    assert alone.activation_bytes == 2 * (5 + 1)


@pytest.mark.parametrize("dataflow", ["os", "is"])
def test_nm_needs_standing_weights(dataflow):
    with pytest.raises(UserError, match=rf"array.nm = 2:4: with dataflow {dataflow}.*array.dataflow=ws"):
        full(spec_of("array.nm=2:4", f"array.dataflow={dataflow}"), 8, 8, 1)


@pytest.mark.parametrize("nm", ["unstructured", "4:2", "2:128", "0.5"])
def test_wrong_nm_is_refused(nm):
    with pytest.raises(UserError, match=r"array.nm"):
        spec_of(f"array.nm={nm}")


# --- TPU presets


@pytest.mark.parametrize(("name", "tflops"), [("tpu-v4", 275), ("tpu-v5e", 197)])
def test_tpu_peaks_as_published(name, tflops):
    spec = spec_of(name=name)
    assert round(2 * spec.macs * spec.clock.mhz * 1e6 / 1e12) == tflops
    # a long enough stream comes near the peak: folds of 2 * 128 + 128 - 2 + 65536 cycles
    found = full(spec, 4096, 4096, 1 << 16)
    assert found.ideal_cycles / found.compute_cycles == pytest.approx(65536 / (65536 + 382), rel=1e-6)


def test_tpu_on_chip_memory_as_published():
    v4, v5e = spec_of(name="tpu-v4").buffers, spec_of(name="tpu-v5e").buffers
    assert v4.weight_kib + v4.index_kib + v4.activation_kib == 128 * 1024  # CMEM
    assert v4.output_kib == 32 * 1024  # VMEM
    assert sum(v5e.capacities) == 128 * 1024 * 1024


@pytest.mark.parametrize(("name", "tokens"), [("systolic", 4096), ("tpu-v4", 4096), ("tpu-v5e", 8192)])
def test_presets_hold_the_sums_of_as_many_tokens_as_documented(name, tokens):
    spec = spec_of(name=name)
    assert "sums spilled" not in full(spec, 4096, 4096, tokens).mapping
    assert "sums spilled" in full(spec, 4096, 4096, tokens + 1).mapping
