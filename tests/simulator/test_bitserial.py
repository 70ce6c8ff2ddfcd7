"""bitwave and stripes: closed forms, bits of storage, binomial expectations of bit columns, layers without codes."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from simulator.accelerators.bitserial import bitwave, stripes
from simulator.cycles import Infeasible
from simulator.machine.spec import load_spec
from simulator.statistics import Statistics
from simulator.work import Work
from validation.twins import bitwave as bitwave_twin
from validation.twins import stripes as stripes_twin
from workloads import PackedMask

load_bitwave = partial(load_spec, "bitwave", bitwave.BitWaveSpec)
load_stripes = partial(load_spec, "stripes", stripes.StripesSpec)
ROOMY = tuple(f"buffers.{name}_kib=65536" for name in ("weight", "index", "activation", "output"))


def tensors_of(weights: np.ndarray, zero: int = 128) -> dict[str, np.ndarray]:
    rows = len(weights)
    return {"codes": (weights + zero).astype(np.uint8), "zero": np.full((rows, 1), zero, np.uint8)}


def run_bitwave(weights, tokens, sets=(), bits=8, kept=None, tensors=None, group_size=None):
    spec = load_bitwave(sets)
    mask = PackedMask.from_dense(np.ones(weights.shape, bool) if kept is None else kept)
    tensors = tensors_of(weights) if tensors is None else tensors
    statistics = Statistics(bitwave.BitWave.of(spec).gather(mask, lambda: tensors))
    return bitwave.BitWave.of(spec).evaluate(Work(*weights.shape, mask.nnz, tokens, bits, group_size), statistics)


def run_stripes(shape, tokens, bits, sets=(), nnz=None):
    spec, mask = load_stripes(sets), PackedMask.dense(*shape)
    statistics = Statistics(stripes.Stripes.of(spec).gather(mask, dict))
    return stripes.Stripes.of(spec).evaluate(Work(*shape, mask.nnz if nnz is None else nnz, tokens, bits), statistics)


@pytest.mark.parametrize(("value", "columns"), [(1, 1), (-64, 1), (3, 2), (-85, 4), (127, 7), (-128, 1)])
def test_equal_weights_take_a_cycle_for_every_one_bit(value, columns):
    found = run_bitwave(np.full((64, 128), value), 32)
    steps = 64 // 32 * 128 // 8 * 32 // 16
    assert found.sparse.compute_cycles == steps * columns
    assert found.dense.compute_cycles == steps * 7
    assert found.sparse.ideal_cycles == found.sparse.compute_cycles  # all groups alike, all lanes busy


@pytest.mark.parametrize(("value", "signs", "index"), [(5, 0, 8), (-5, 1, 8), (-128, 1, 9)])
def test_storage_of_equal_weights_to_the_bit(value, signs, index):
    columns = bin(abs(value)).count("1")
    found = run_bitwave(np.full((64, 128), value), 1, ROOMY).sparse
    assert found.weight_bytes == 64 * 128 * (columns + signs) // 8
    assert found.metadata_bytes == 64 * 128 // 8 * index // 8


def test_scales_are_charged_once_and_zero_points_not():
    found = run_bitwave(np.full((64, 128), 3), 1, ROOMY, group_size=32)
    assert found.sparse.scale_bytes == 64 * 4 * 2
    assert found.dense.scale_bytes == 0
    assert found.dense.weight_bytes == 64 * 128


@given(
    rows=st.integers(1, 12),
    cols=st.integers(1, 90),
    density=st.sampled_from([0.0, 0.2, 0.7, 1.0]),
    largest=st.sampled_from([1, 9, 127]),
    tokens=st.integers(1, 9),
    sets=st.sampled_from(bitwave_twin.TWIN.machines),
    seed=st.integers(0, 999),
)
@settings(deadline=None, max_examples=25)
def test_bitwave_is_its_twin_to_the_cycle_and_byte(rows, cols, density, largest, tokens, sets, seed):
    rng = np.random.default_rng(seed)
    kept = rng.random((rows, cols)) < density
    codes = rng.integers(-largest, largest + 1, (rows, cols))  # under the mask too: pruned codes must not count
    weights = np.where(kept, codes, 0)
    inputs = rng.integers(-20, 21, (tokens, cols))
    sets = (*sets, *ROOMY)
    found = run_bitwave(codes, tokens, sets, kept=kept).sparse
    twin = bitwave_twin.run_layer(load_bitwave(sets), weights, kept, inputs, found.mapping)
    assert found.compute_cycles == twin.cycles
    assert np.array_equal(twin.outputs, inputs @ weights.T)
    assert np.array_equal(twin.uses, np.where(kept, tokens, 0))
    assert found.ideal_cycles <= found.compute_cycles
    whole = (
        f"mapping.tile_rows={1200 * rows}",
        f"mapping.tile_cols={1600 * cols}",
    )  # one tile: its bits are rounded to bytes once
    one = run_bitwave(codes, 1, (*sets, *whole), kept=kept).sparse
    values, metadata = bitwave_twin.stored_bits(load_bitwave(sets), weights)
    assert (one.weight_bytes, one.metadata_bytes) == (-(-values // 8), -(-metadata // 8))


def test_codes_zero_points_and_packing_do_not_matter_only_integers_do():
    rng = np.random.default_rng(0)
    weights = rng.integers(-7, 8, (16, 48))
    kept = rng.random(weights.shape) < 0.6
    eight = run_bitwave(weights, 3, kept=kept, bits=4)
    other = run_bitwave(weights, 3, kept=kept, bits=4, tensors=tensors_of(weights, 30))
    codes = (weights + 8).astype(np.uint8)
    packed = {"codes": codes[:, 0::2] | codes[:, 1::2] << 4, "zero": np.full((16, 6), 8, np.uint8)}
    four = run_bitwave(weights, 3, kept=kept, bits=4, tensors=packed)
    assert eight.sparse == other.sparse == four.sparse


def expected_step(density: float, group: int, outputs: int) -> float:
    """Cycles of a step whose kept weights have uniform magnitudes of 7 bits: of k kept weights of a group each column
    is empty with probability 2^-k, alone; k is binomial; the step takes the most of `outputs` groups, at least one."""
    columns = np.arange(8)
    cdf = sum(
        binom.pmf(k, group, density) * binom.cdf(columns, 7, 1 - 0.5**k) for k in range(group + 1)
    )  # of one group
    most = cdf**outputs
    return float(np.sum(columns * np.diff(most, prepend=0)) + most[0])


@pytest.mark.parametrize("density", [0.05, 0.2, 0.5, 1.0])
@pytest.mark.parametrize(("group", "outputs"), [(8, 4), (8, 32), (16, 8)])
def test_random_weights_take_the_expected_cycles(density, group, outputs):
    rng = np.random.default_rng(3)
    rows, cols = 512, 2048
    weights = rng.integers(0, 128, (rows, cols)) * rng.choice([-1, 1], (rows, cols))
    kept = rng.random((rows, cols)) < density
    found = run_bitwave(
        weights, 16, (f"array.group={group}", f"array.outputs={outputs}", "array.single_outputs=8"), kept=kept
    ).sparse
    steps = rows // outputs * cols // group
    assert found.compute_cycles / steps == pytest.approx(expected_step(density, group, outputs), abs=4 / np.sqrt(steps))


@given(seed=st.integers(0, 999), fewer=st.floats(0, 1), tokens=st.integers(1, 40))
@settings(deadline=None, max_examples=20)
def test_more_zeros_never_add_cycles_or_columns(seed, fewer, tokens):
    rng = np.random.default_rng(seed)
    weights = rng.integers(-127, 128, (40, 100))
    kept = rng.random(weights.shape) < 0.7
    less = kept & (rng.random(weights.shape) < fewer)
    before, after = (run_bitwave(weights, tokens, ROOMY, kept=mask).sparse for mask in (kept, less))
    assert after.compute_cycles <= before.compute_cycles
    assert after.weight_bytes <= before.weight_bytes


def test_an_empty_mask_still_reads_its_indices():
    found = run_bitwave(np.full((32, 64), 9), 16, kept=np.zeros((32, 64), bool))
    assert found.sparse.compute_cycles == 64 // 8
    assert found.sparse.weight_bytes == 0
    assert found.sparse.metadata_bytes == 32 * 64 // 8


def test_wide_magnitudes_can_be_slower_than_the_baseline():
    """Codes of a grid whose zero point is 0: all of 8 bits, where the chip has 7."""
    weights = np.full((32, 64), 255)
    found = run_bitwave(weights, 16, tensors=tensors_of(weights, 0))
    assert found.sparse.compute_cycles * 7 == found.dense.compute_cycles * 8
    assert "8-bit magnitudes" in found.sparse.mapping


@pytest.mark.parametrize(
    ("tokens", "words"), [(1, "128 outputs x 1 token"), (3, "128 outputs x 1 token"), (16, "32 outputs x 16 tokens")]
)
def test_arrangement_follows_the_tokens(tokens, words):
    """Where computing decides."""
    assert words in run_bitwave(np.full((256, 64), 5), tokens, ["dram.bandwidth_gbps=1e5"]).sparse.mapping


def test_arrangement_changes_where_it_becomes_faster():
    """Equal weights: four times 32 outputs take ceil(t / 16) steps each, 128 outputs take t: at 4 tokens both are
    even."""
    weights, fast = np.full((128, 64), 5), ["dram.bandwidth_gbps=1e5"]
    cycles = {tokens: run_bitwave(weights, tokens, fast).sparse.compute_cycles for tokens in (1, 2, 3, 4, 5, 16)}
    assert cycles == {tokens: min(tokens, 4) * cycles[1] for tokens in cycles}
    assert "x 16 tokens" in run_bitwave(weights, 5, fast).sparse.mapping
    assert "x 1 token" in run_bitwave(weights, 3, fast).sparse.mapping


@pytest.mark.parametrize("tensors", [{}, {"bfloat16": np.zeros((4, 64), np.uint16)}])
def test_bitwave_needs_codes(tensors):
    with pytest.raises(Infeasible, match="such as to 8 bits"):
        run_bitwave(np.zeros((4, 64), int), 1, tensors=tensors)


@pytest.mark.parametrize(("bits", "speedup"), [(None, 1), (16, 1), (8, 2), (4, 4), (2, 8), (5, 16 / 5)])
@pytest.mark.parametrize("tokens", [1, 512])
def test_stripes_takes_bits_over_sixteen(bits, speedup, tokens):
    found = run_stripes((4096, 1024), tokens, bits)
    assert found.dense.compute_cycles / found.sparse.compute_cycles == pytest.approx(speedup)
    assert found.dense.compute_cycles == -(-tokens // 16) * 1024 // 16 * 16 * (16 if tokens > 1 else 1)
    assert found.weight_bits == (bits or 16)


def test_stripes_int4_is_twice_int8():
    eight, four = (run_stripes((512, 512), 64, bits).sparse for bits in (8, 4))
    assert eight.compute_cycles == 2 * four.compute_cycles
    assert eight.weight_bytes == 2 * four.weight_bytes


def test_stripes_gains_nothing_from_zeros():
    full, half = (run_stripes((512, 512), 64, 8, nnz=nnz).sparse for nnz in (512 * 512, 512 * 256))
    assert (full.cycles, full.total_bytes) == (half.cycles, half.total_bytes)
    assert half.ideal_cycles == full.ideal_cycles / 2


@given(
    rows=st.integers(1, 40),
    cols=st.integers(1, 40),
    tokens=st.integers(1, 9),
    bits=st.integers(2, 8),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=25)
def test_stripes_is_its_twin_to_the_cycle(rows, cols, tokens, bits, seed):
    rng = np.random.default_rng(seed)
    kept = rng.random((rows, cols)) < 0.5
    weights = np.where(kept, rng.integers(-(1 << bits - 1), 1 << bits - 1, (rows, cols)), 0)
    inputs = rng.integers(-20, 21, (tokens, cols))
    sets = (*stripes_twin.TWIN.machines[0], *ROOMY)
    found = run_stripes((rows, cols), tokens, bits, sets, int(kept.sum())).sparse
    twin = stripes_twin.run_layer_at(load_stripes(sets), weights, kept, inputs, bits, found.mapping)
    assert found.compute_cycles == twin.cycles
    assert np.array_equal(twin.outputs, inputs @ weights.T)
    assert np.array_equal(twin.uses, np.where(kept, tokens, 0))


def test_two_bit_widths_of_one_layer_do_not_mix():
    """Statistics do not hold the bits: the second evaluation must not find the first one's cycles."""
    spec = load_stripes()
    statistics = Statistics(stripes.Stripes.of(spec).gather(PackedMask.dense(256, 256), dict))
    first = [stripes.Stripes.of(spec).evaluate(Work(256, 256, 65536, 16, bits), statistics) for bits in (8, 4, 8)]
    assert first[0] == first[2]
    assert first[0].sparse.compute_cycles == 2 * first[1].sparse.compute_cycles


def test_two_machines_of_one_geometry_do_not_mix():
    """array.tokens is no part of the geometry, so both share statistics."""
    weights = np.full((64, 64), 5)
    sixteen, four = (
        load_bitwave(("array.single_outputs=1",)),
        load_bitwave(("array.single_outputs=1", "array.tokens=4")),
    )
    assert bitwave.BitWave.of(sixteen).geometry() == bitwave.BitWave.of(four).geometry()
    statistics = Statistics(bitwave.BitWave.of(sixteen).gather(PackedMask.dense(64, 64), lambda: tensors_of(weights)))
    work = Work(64, 64, 4096, 16, 8)
    cycles = [bitwave.BitWave.of(spec).layer(work, statistics).compute_cycles for spec in (sixteen, four, sixteen)]
    assert cycles == [cycles[0], 4 * cycles[0], cycles[0]]
