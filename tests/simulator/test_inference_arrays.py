"""Whole decoders on accelerators: sums, laws, closed forms, and the layers of the cycle models."""

from itertools import pairwise

import numpy as np
import pytest

from simulator.accelerators import ACCELERATORS
from simulator.accelerators.named import open_accelerator
from simulator.cycles import ceil_div
from simulator.inference.arrays import RUNS, ArrayRunner
from simulator.inference.attending import attention_of
from simulator.inference.linears import dense_cycles, in_passes
from simulator.inference.steps import GROUPS, times_of
from simulator.runners import find_runner
from workloads.counts import Elements
from workloads.decoder.accounting import account
from workloads.decoder.memory import weight_bytes
from workloads.decoder.read import read_decoder
from workloads.decoder.split import split
from workloads.operations import DecoderOperation
from workloads.operations.causal import CausalAttention
from workloads.operations.gemm import Gemm
from workloads.operations.moves import Move
from workloads.phases import decode, generate, prefill

SMALL = dict(
    model_type="llama", hidden_size=256, intermediate_size=512, num_hidden_layers=3, num_attention_heads=8,
    num_key_value_heads=2, vocab_size=1000,
)  # fmt: skip
KINDS = {
    "llama": SMALL,
    "windows": SMALL | {"model_type": "gemma2", "head_dim": 32, "sliding_window": 40},
    "experts": SMALL | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2},
    "latent": SMALL | dict(
        model_type="deepseek_v3", kv_lora_rank=64, q_lora_rank=128, qk_nope_head_dim=32, qk_rope_head_dim=16,
        v_head_dim=32, n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=128, n_shared_experts=1,
        first_k_dense_replace=1, num_key_value_heads=8,
    ),
}  # fmt: skip
DECODER = read_decoder(SMALL)


@pytest.fixture(scope="module")
def vitcod() -> ArrayRunner:
    return ArrayRunner(open_accelerator("vitcod"))


def us(runner, work, decoder=DECODER, **numbers) -> float:
    return times_of(runner, decoder, work, runner.numbers(**numbers)).us()


def test_every_operation_runs():
    """Of those that a layout with fused attention has."""

    def leaves(kind):
        return {kind} | {leaf for child in kind.__subclasses__() for leaf in leaves(child)}

    assert {kind.__name__ for kind in leaves(DecoderOperation) - {DecoderOperation, Move} - set(RUNS)} == {"Softmax"}


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("work", [prefill(2, 50), decode(3, 60), generate(2, 50, 30)])
def test_rows_add_up(kind, work, vitcod):
    times = times_of(vitcod, read_decoder(KINDS[kind]), work, vitcod.numbers(), vitcod.host("0.5")[1])
    assert times.us() == pytest.approx(sum(row.us for row in times.rows) + 500 * times_steps(work))
    assert all(row.us > 0 for row in times.rows)
    assert sum(times.us(phase) for phase in ("prefill", "decode")) == pytest.approx(times.us())
    assert sum(times.shares().values()) == pytest.approx(1)
    assert set(times.shares()) == set(GROUPS)


def times_steps(work) -> int:
    return 30 if work == generate(2, 50, 30) else 1


@pytest.mark.parametrize("name", sorted(set(ACCELERATORS) - {"vitcod-paper"}))
def test_every_cycle_model_runs_whole_models(name):
    runner = find_runner(name)
    tiny = read_decoder(SMALL | {"hidden_size": 128, "intermediate_size": 64, "vocab_size": 100})
    times = times_of(runner, tiny, generate(2, 8, 3), runner.numbers())
    assert times.us("prefill") == us(runner, prefill(2, 8), tiny)
    assert times.us("decode") == pytest.approx(us(runner, decode(2, 9), tiny) + us(runner, decode(2, 10), tiny))
    assert runner.sha256 != find_runner(name, ["vector.lanes=3"]).sha256
    assert not any(row.extrapolated for row in times.rows)


@pytest.mark.parametrize("name", ["vitcod", "systolic", "stc"])
def test_more_work_takes_no_less(name):
    runner = find_runner(name)
    for steps in (
        [us(runner, decode(batch, 100)) for batch in (1, 2, 4, 8, 16)],
        [us(runner, decode(4, context)) for context in (10, 100, 1000)],
        [us(runner, prefill(1, seq)) for seq in (16, 64, 256)],
        [us(runner, decode(4, 1000), kv_bits=bits) for bits in (4, 8, 16)],
    ):
        assert all(later >= before * (1 - 1 / 64) for before, later in pairwise(steps))


def test_linears_are_the_layers_of_the_machine(vitcod):
    found = {row.operation.name: row for row in times_of(vitcod, DECODER, prefill(2, 9), vitcod.numbers()).rows}
    design, mhz = vitcod.accelerator, vitcod.spec.clock.mhz
    for name, (rows, cols), count in (("q", (256, 256), 3), ("k", (64, 256), 3), ("down", (256, 512), 3)):
        row = found[f"blocks.0.{name}"]
        assert row.executions == count
        assert row.us == pytest.approx(count * dense_cycles(design, rows, cols, 18).cycles / mhz)
    assert found["head"].us == pytest.approx(dense_cycles(design, 1000, 256, 2).cycles / mhz)


def test_bytes_of_attention_in_decode(vitcod):
    """Queries and outputs, and every key and value once, at the cache's bits."""
    for kv_bits in (4, 8, 16):
        times = times_of(vitcod, DECODER, decode(3, 700), vitcod.numbers(kv_bits=kv_bits))
        (row,) = (row for row in times.rows if row.operation.role == "attention")
        assert row.counts.bytes_kv == 3 * (2 * 3 * 700 * 2 * 32 * kv_bits / 8)
        assert row.counts.bytes_act == 3 * (3 * 2 * 8 * 32)
        assert row.us >= (row.counts.bytes_kv + row.counts.bytes_act) / vitcod.bytes_per_us


def test_products_of_attention_are_those_of_unpruned_matrices(vitcod):
    """A step of 3 sequences: of each of 2 kv heads 700 x 32 keys, then 32 x 700 values, and a group's 4 queries."""
    one = CausalAttention("a", "attention", 0, 8, 2, 32, 32)
    found = attention_of(vitcod.accelerator, one, decode(3, 700), Elements(8, None, 8, 8, 8))
    both = [dense_cycles(vitcod.accelerator, *sides, 4) for sides in ((700, 32), (32, 700))]
    busy = sum(each.compute_cycles + each.buffer_cycles for each in both)
    assert found.array_us == pytest.approx(3 * 2 * busy / vitcod.spec.clock.mhz)


@pytest.mark.parametrize(("sequences", "heads"), [(3, 32), (1, 3), (1, 1), (5, 1), (2, 8)])
@pytest.mark.parametrize("keys", [4096, 100])
def test_heads_spread_over_the_arrays_of_a_machine(sequences, heads, keys):
    """Weight stationary: a fold of one token takes 2 rows + cols - 1 cycles, a product ceil(inputs / rows) ceil(outputs
    / all columns) of them, less one. Eight arrays take one head at a time, two, four or eight."""
    tpu, fold = open_accelerator("tpu-v4"), 2 * 128 + 128 - 1
    one = CausalAttention("a", "attention", 0, heads, heads, 128, 128)
    found = attention_of(tpu, one, decode(sequences, keys), Elements(16, None, 16, 16, 16))
    expected = []
    for at_once in (1, 2, 4, 8):
        scores = ceil_div(keys, 128 * 8 // at_once) * fold - 1
        outputs = ceil_div(keys, 128) * fold - 1
        expected.append(ceil_div(sequences * heads, at_once) * (scores + outputs) / 1050)
    assert found.array_us == pytest.approx(min(expected))
    assert found.at_once == (1, 2, 4, 8)[expected.index(min(expected))]
    if sequences * heads == 16:
        alone = open_accelerator("tpu-v4", ["array.count=1"])
        single = attention_of(alone, one, decode(sequences, keys), Elements(16, None, 16, 16, 16))
        assert single.array_us == pytest.approx(8 * found.array_us)


def test_a_part_of_the_arrays_has_its_share():
    """Of buffers and DRAM; and keys of a head that no longer fit it are read again."""
    tpu = open_accelerator("tpu-v4")
    part = tpu.share(2)
    assert part.spec.macs == tpu.spec.macs / 4
    assert part.spec.buffers.capacities == tuple(each / 4 for each in tpu.spec.buffers.capacities)
    assert tpu.share(8).spec == tpu.spec
    one = CausalAttention("a", "attention", 0, 8, 8, 128, 128)
    long = attention_of(tpu, one, prefill(1, 40_000), Elements(16, None, 16, 16, 16))
    assert long.memory_us >= (2 * 40_000 * 8 * 128 * 2 * 2) / (1200e3 * 0.9)


@pytest.mark.parametrize("name", ["vitcod", "systolic", "tpu-v5e", "sparten"])
def test_no_phase_is_faster_than_its_products_and_its_bytes(name):
    runner = find_runner(name)
    numbers = runner.numbers()
    for work in (prefill(2, 64), decode(4, 300)):
        times, counted = times_of(runner, DECODER, work, numbers), account(DECODER, work, numbers.elements)
        macs = sum(row.total.flop for row in counted if isinstance(row.operation, Gemm | CausalAttention)) / 2
        assert times.us() >= macs / runner.spec.macs / runner.spec.clock.mhz
        moved = sum(row.total.bytes_moved for row in counted)
        assert times.us() >= moved / runner.bytes_per_us
        assert sum(row.counts.bytes_moved for row in times.rows) >= moved


@pytest.mark.parametrize("window", [None, 300])
@pytest.mark.parametrize(("new", "past"), [(1000, 0), (700, 500), (1, 900)])
def test_keys_and_values_are_read_for_every_tile_of_queries(new, past, window, vitcod):
    """A twin goes over the tiles: half of the buffers holds so many queries of a group of heads."""
    one = CausalAttention("a", "attention", 0, 8, 2, 128, 128, window)
    phase = prefill(2, new, past)
    found = attention_of(vitcod.accelerator, one, phase, Elements(8, None, 8, 8, 8))
    activation, output = 53 * 1024 / 2 / 128, 108 * 1024 / 2 / (128 * 4)
    tile = int(min(activation, output) / 4)
    read = 0
    for start in range(0, new, tile):
        queries = range(past + start, past + min(start + tile, new))
        first = 0 if window is None else max(queries[0] - window + 1, 0)
        read += queries[-1] + 1 - first
    assert found.counts.bytes_kv == 2 * 2 * 256 * read
    pairs = sum(min(past + q + 1, window or past + q + 1) for q in range(new))
    assert found.counts.flop == 2 * 8 * 2 * 256 * pairs
    assert found.softmax_operations == 5 * 2 * 8 * pairs
    keys = past + new if window is None else min(past + new, window - 1 + new)
    tokens = ceil_div(4 * pairs, keys)
    ideal = 256 * keys * tokens / vitcod.spec.macs  # of one sequence and kv head
    assert found.array_us * vitcod.spec.clock.mhz / 4 >= ideal * (1 - 1e-9)


def test_short_keys_are_read_once(vitcod):
    one = CausalAttention("a", "attention", 0, 8, 2, 128, 128)
    found = attention_of(vitcod.accelerator, one, prefill(2, 100), Elements(8, None, 8, 8, 8))
    assert found.counts.bytes_kv == 2 * 2 * 256 * 100


def test_a_wide_window_and_equal_heads(vitcod):
    wide = read_decoder(SMALL | {"model_type": "mistral", "sliding_window": 500})
    none = read_decoder(SMALL | {"model_type": "mistral"})
    assert us(vitcod, decode(2, 400), wide) == us(vitcod, decode(2, 400), none)
    assert us(vitcod, decode(2, 900), wide) < us(vitcod, decode(2, 900), none)


def test_chips_in_parallel(vitcod):
    work, link = generate(2, 50, 8), vitcod.spec.link
    alone = times_of(vitcod, DECODER, work, vitcod.numbers())
    assert us(vitcod, work, split(DECODER, 1)) == alone.us()
    shared = times_of(vitcod, split(DECODER, 2), work, vitcod.numbers())
    assert alone.us() / 2 < shared.us() < alone.us() + sum(r.us for r in shared.rows if r.group == "communication")
    (reduced,) = (row for row in shared.rows if row.phase == "prefill" and row.operation.role == "all_reduce")
    assert reduced.executions == 2 * 3 + 1
    step_us = 100 * 256 / 2 / (link.bandwidth_gbps * 1e3) + link.latency_us
    assert reduced.us / reduced.executions == pytest.approx(2 * step_us)


def test_the_vector_unit_is_a_roofline():
    slow, fast = (find_runner("vitcod", [f"vector.lanes={lanes}"]) for lanes in (1, 1_000_000))
    norms = [
        next(r for r in times_of(one, DECODER, prefill(1, 10), one.numbers()).rows if r.operation.name == "norm")
        for one in (slow, fast)
    ]
    assert norms[0].us == pytest.approx(5 * 10 * 256 / 500)
    assert norms[0].bound == "vector"
    moved = 4 * 10 * 256 + 256
    assert norms[1].us == pytest.approx(moved / (76.8 * 1e3))
    assert norms[1].bound == "memory"
    assert find_runner("vitcod").spec.vector_per_us == 4096 / 32 * 500
    assert find_runner("vitcod", ["vector.lanes=8", "vector.mhz=100"]).spec.vector_per_us == 800


def test_weights_as_the_machine_stores_them(vitcod):
    numbers = vitcod.numbers()
    stored = weight_bytes(vitcod.as_stored(DECODER, numbers), numbers.elements)
    assert stored == weight_bytes(DECODER, numbers.elements)
    eie = find_runner("eie")  # its model has weights on chip from the start
    assert weight_bytes(eie.as_stored(DECODER, eie.numbers()), eie.numbers().elements) > 0


def test_experts_run_as_often_as_they_are_hit(vitcod):
    decoder = read_decoder(KINDS["experts"])
    rows = times_of(vitcod, decoder, decode(1, 9), vitcod.numbers(routing="balanced")).rows
    (row,) = (row for row in rows if row.operation.role == "experts")
    design, mhz = vitcod.accelerator, vitcod.spec.clock.mhz
    cycles = sum(dense_cycles(design, *shape, 1).cycles for shape in ((1024, 256), (256, 512)))
    vector = 2 * 5 * 512 / vitcod.spec.vector_per_us
    assert row.us == pytest.approx(row.executions * (2 * cycles / mhz + vector))
    assert np.isnan(row.error_p90)


def test_many_tokens_run_in_passes_where_one_would_spill():
    """Of 4096 x 4096 on the TPU: 65,536 tokens take 16 times as long as 4096, whose partial sums fit, not 40 times."""
    tpu = open_accelerator("tpu-v4")
    fits, spills = dense_cycles(tpu, 4096, 4096, 4096), dense_cycles(tpu, 4096, 4096, 65536)
    best, passes = in_passes(lambda n: dense_cycles(tpu, 4096, 4096, n), 65536)
    every = {2**i: 2**i * dense_cycles(tpu, 4096, 4096, 65536 >> i).cycles for i in range(17)}
    assert passes * best.cycles == min(every.values()) <= 16 * fits.cycles < spills.cycles
    assert in_passes(lambda n: dense_cycles(tpu, 4096, 4096, n), 4096) == (fits, 1)
