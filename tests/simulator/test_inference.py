"""Whole decoders on GPUs: sums, laws, and a slow twin that runs every step."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoints.catalog import catalog_config
from simulator.gpu import load_gpu
from simulator.gpu.operators import linear
from simulator.gpu.operators.stack import STACKS, Stack
from simulator.gpu.prediction import predict
from simulator.inference.gpus import GpuRunner
from simulator.inference.host import added_us, stack_of
from simulator.inference.kernels import DTYPES, KERNELS, ROW_KERNELS, numbers_of, time_of
from simulator.inference.steps import GROUPS, sampled, times_of
from workloads.decoder.accounting import account, grouped
from workloads.decoder.memory import weight_bytes
from workloads.decoder.read import read_decoder
from workloads.decoder.split import split
from workloads.errors import UserError
from workloads.operations import DecoderOperation
from workloads.operations.gemm import Gemm, Matrix
from workloads.operations.moves import Move
from workloads.phases import decode, generate, prefill

FP16 = numbers_of("fp16")
SMALL = dict(
    model_type="llama", hidden_size=512, intermediate_size=1024, num_hidden_layers=3, num_attention_heads=8,
    num_key_value_heads=2, vocab_size=1000,
)  # fmt: skip
WINDOWED = SMALL | {"model_type": "gemma2", "head_dim": 64, "sliding_window": 40}
EXPERTS = SMALL | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
LATENT = SMALL | dict(
    model_type="deepseek_v3", kv_lora_rank=128, q_lora_rank=256, qk_nope_head_dim=64, qk_rope_head_dim=32,
    v_head_dim=64, n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=256, n_shared_experts=1,
    first_k_dense_replace=1, num_key_value_heads=8,
)  # fmt: skip
KINDS = {"llama": SMALL, "windows": WINDOWED, "experts": EXPERTS, "latent": LATENT}


@pytest.fixture(scope="module")
def h100():
    return load_gpu("h100-sxm")


def gpu_times(gpu, *arguments):
    return times_of(GpuRunner(gpu), *arguments)


def catalog(name):
    return read_decoder(catalog_config(name))


def test_every_operation_has_a_kernel():
    """Of those that a fused layout has: softmax alone is of attention that writes its scores."""

    def leaves(kind):
        return {kind} | {leaf for child in kind.__subclasses__() for leaf in leaves(child)}

    known = {DecoderOperation, Move, *KERNELS, *ROW_KERNELS}
    assert {kind.__name__ for kind in leaves(DecoderOperation) - known} == {"Softmax"}


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("work", [prefill(2, 50), decode(3, 60), generate(2, 50, 30)])
def test_rows_are_the_operations_and_add_up(kind, work, h100):
    decoder = read_decoder(KINDS[kind])
    times = gpu_times(h100, decoder, work, FP16, Stack(0.0, 0.0, 7.0, ""))
    counted = account(decoder, work)
    assert [(row.phase, row.operation, row.executions, row.counts) for row in times.rows] == [
        (row.phase, row.operation, row.executions, row.total) for row in counted
    ]
    steps = 1 if work in (prefill(2, 50), decode(3, 60)) else 30
    assert times.us() == pytest.approx(sum(row.us for row in times.rows) + 7.0 * steps)
    assert sum(times.us(phase) for phase in ("prefill", "decode")) == pytest.approx(times.us())
    assert sum(times.shares().values()) == pytest.approx(1)
    assert set(times.shares()) == set(GROUPS)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize(("new", "tolerance"), [(GpuRunner.samples, 1e-9), (300, 0.01)])
def test_a_generation_is_all_its_steps(kind, new, tolerance, h100):
    """The twin runs each step; few steps are exact, of many a hundredth."""
    decoder = read_decoder(KINDS[kind])
    found = gpu_times(h100, decoder, generate(2, 30, new), FP16)
    steps = [gpu_times(h100, decoder, decode(2, 30 + step), FP16).us() for step in range(1, new)]
    assert found.steps == len(steps)
    assert found.us("decode") == pytest.approx(sum(steps), rel=tolerance)
    assert found.us("prefill") == gpu_times(h100, decoder, prefill(2, 30), FP16).us()


@settings(max_examples=60, deadline=None)
@given(start=st.integers(1, 90), count=st.integers(1, 120))
def test_samples_of_a_line_with_a_bend_sum_exactly(start, count):
    """min(c, 40) over all contexts; the window of the decoder is 40."""
    contexts = range(start, start + count)
    chosen, weights = sampled(read_decoder(WINDOWED), contexts, 17)
    assert weights.sum() == pytest.approx(count)
    assert np.dot(np.minimum(chosen, 40), weights) == pytest.approx(sum(min(c, 40) for c in contexts))


@pytest.mark.parametrize("name", ["llama-2-7b", "llama-3-8b", "opt-175b"])
@pytest.mark.parametrize("gpu", ["a100-sxm", "h100-sxm", "rtx-4090"])
def test_no_step_is_faster_than_its_weights_and_products(name, gpu):
    decoder, card = catalog(name), load_gpu(gpu)
    for dtype in ("fp16", "int4"):
        numbers = numbers_of(dtype)
        read = weight_bytes(decoder, numbers.elements) - 2 * decoder.embedding_parameters * (not decoder.is_tied)
        step = gpu_times(card, decoder, decode(1, 100), numbers).us()
        assert step >= 0.98 * read / (card.memory.bandwidth_gbps * 1e3)  # positions of OPT are not all read
    flop = sum(row.total.flop for row in account(decoder, prefill(1, 2048)) if isinstance(row.operation, Gemm))
    peak = 2e-3 * card.fp16.macs_per_cycle * card.chip.sms * card.chip.clock_mhz * 1e3
    assert gpu_times(card, decoder, prefill(1, 2048), FP16).us() >= flop / peak


@pytest.mark.parametrize("name", ["llama-2-7b", "llama-2-70b"])
def test_more_work_takes_no_less(name, h100):
    decoder = catalog(name)
    steps = [gpu_times(h100, decoder, decode(batch, 1000), FP16).us() for batch in (1, 2, 4, 8, 16, 32, 64, 128)]
    assert all(later >= 0.999 * before for before, later in pairwise(steps))
    contexts = [gpu_times(h100, decoder, decode(8, context), FP16).us() for context in (10, 100, 1000, 10_000)]
    assert contexts == sorted(contexts)
    prompts = [gpu_times(h100, decoder, prefill(1, seq), FP16).us() for seq in (128, 512, 2048, 8192)]
    assert prompts == sorted(prompts)


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_gpus_together_are_never_more_than_so_many(ranks, h100):
    decoder = catalog("llama-2-70b")
    for work in (prefill(1, 2048), decode(1, 2048), decode(32, 2048)):
        alone, shared = (gpu_times(h100, split(decoder, n), work, FP16).us() for n in (1, ranks))
        assert alone / ranks <= shared <= alone


def test_what_must_be_equal_is_equal(h100):
    """A window that is never full, and kv heads as many as heads, on a GPU too."""
    wide = gpu_times(h100, read_decoder(SMALL | {"model_type": "mistral", "sliding_window": 500}), decode(2, 400), FP16)
    none = gpu_times(h100, read_decoder(SMALL | {"model_type": "mistral"}), decode(2, 400), FP16)
    assert wide.us() == none.us()
    own = {key: value for key, value in SMALL.items() if key != "num_key_value_heads"}
    equal = gpu_times(h100, read_decoder(SMALL | {"num_key_value_heads": 8}), decode(2, 400), FP16)
    assert equal.us() == gpu_times(h100, read_decoder(own), decode(2, 400), FP16).us()


def test_gemms_are_those_of_the_operators(h100):
    """q, k, v as one of the framework's GEMMs; 4-bit weights in groups of 128; the head at 16 bits all the same."""
    decoder = catalog("llama-2-7b")
    found = {row.operation.role: row for row in gpu_times(h100, decoder, decode(4, 100), numbers_of("int4")).rows}
    expected = linear(h100, 4, 3 * 4096, 4096, "fp16", weight_bits=4, group_size=128)
    assert found["qkv"].us == pytest.approx(32 * expected.latency_us[0])
    assert found["head"].us == pytest.approx(linear(h100, 4, 32_000, 4096).latency_us[0])


def test_2_4_gains_what_the_library_gains(h100):
    """The framework's dense time / the library's speedup, both with a cold L2; dense where sizes do not allow it."""
    cold = replace(h100, memory=replace(h100.memory, l2_warm=False))
    sparse = Gemm("g", "o", 0, (Matrix("o", 4096, 4096, stored="2:4"),))
    (found,) = time_of(h100, sparse, [decode(64, 9)], FP16).us
    gain = predict(cold, 64, 4096, 4096, "fp16").speedup[0]
    assert found == pytest.approx(linear(h100, 64, 4096, 4096).latency_us[0] / gain)
    odd = time_of(h100, Gemm("g", "o", 0, (Matrix("o", 4100, 4096, stored="2:4"),)), [decode(64, 9)], FP16)
    assert odd.us[0] == linear(h100, 64, 4100, 4096).latency_us[0]
    assert "multiples of 16" in odd.unused


def test_hosts():
    """A step is its kernels, the gaps between them and the host's part; or launching, where that takes longer."""
    stack = Stack(40.0, 1.0, 5.0, "")
    assert added_us(stack, 100.0, 50) == 40 * 50 + 5 - 100
    assert added_us(stack, 1e6, 50) == pytest.approx(50 + 5)
    assert added_us(stack_of("1.5"), 100.0, 50) == 1500
    assert (stack_of("graph"), stack_of("eager")) == (STACKS["cuda-graph"], STACKS["eager"])
    for bad in ("fast", "-1", "nan", "inf", "1e9"):
        with pytest.raises(UserError, match=r"graph, .*eager.*, or the milliseconds"):
            stack_of(bad)


@pytest.mark.parametrize("work", [decode(1, 105), decode(64, 1000), prefill(2, 300)])
def test_compiled_kernels_take_the_time_of_their_bytes(h100, work):
    """Of norms, additions, rotary embedding and activations: never more than apart, never above the bandwidth; all else
    is as in a CUDA graph."""
    runner = GpuRunner(h100)
    found = {
        name: times_of(runner, catalog("llama-2-7b"), work, FP16, stack_of(name)) for name in ("graph", "compiled")
    }
    fused = {"norm", "add_norm", "add", "rotary", "activation"}
    for graph, compiled in zip(found["graph"].rows, found["compiled"].rows, strict=True):
        assert graph.operation == compiled.operation
        if graph.operation.role not in fused:
            assert graph == compiled
            continue
        assert compiled.us <= graph.us
        assert compiled.us >= compiled.counts.bytes_act / (h100.memory.bandwidth_gbps * 1e3) * 0.99  # without tables
        assert "compiled into its neighbours" in compiled.assumed
    saved = sum(a.us - b.us for a, b in zip(found["graph"].rows, found["compiled"].rows, strict=True))
    assert found["graph"].us() - found["compiled"].us() == pytest.approx(saved)
    if work.tokens == 1:  # a kernel of one token is nearly all launch
        assert sum(r.us for r in found["compiled"].rows if r.group == "elementwise") < 0.1 * sum(
            r.us for r in found["graph"].rows if r.group == "elementwise"
        )


def test_errors_of_groups_add_up_as_independent_ones(h100):
    times = gpu_times(h100, catalog("llama-2-7b"), decode(1, 500), FP16)
    groups = {group: sum(r.us * r.error_p90 for r in times.rows if r.group == group) for group in GROUPS}
    assert times.error_p90() == pytest.approx(np.sqrt(sum(each**2 for each in groups.values())) / times.us())
    assert 0 < times.error_p90() < max(row.error_p90 for row in times.rows)


def test_dtypes(h100):
    for name in DTYPES:
        assert gpu_times(h100, read_decoder(SMALL), decode(1, 9), numbers_of(name)).us() > 0
    with pytest.raises(UserError, match="did you mean 'int4'"):
        numbers_of("int-4")
    with pytest.raises(UserError, match="have no fp8"):
        gpu_times(load_gpu("a100-pcie"), read_decoder(SMALL), decode(1, 9), numbers_of("fp8"))


def test_a_decoder_of_many_blocks_has_as_many_rows_as_one(h100):
    one = replace(catalog("llama-2-70b"), blocks=catalog("llama-2-70b").blocks[:2], numbers=(0, 1))
    assert len(grouped(one)) == len(grouped(catalog("llama-2-70b")))
