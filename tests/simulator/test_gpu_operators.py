"""Operators of a decoder on a GPU: laws that hold for every preset and kernel, slow twins of what is counted, and
published figures."""

import dataclasses
from itertools import combinations, product

import numpy as np
import pytest

from simulator.gpu import GPUS, load_gpu
from simulator.gpu.operator_parameters import Residuals
from simulator.gpu.operators import STACKS, VALUES_MOVED, all_reduce, decode, elementwise, linear, moe, prefill, step_us
from simulator.gpu.operators.moe import experts_chosen
from simulator.gpu.operators.prefill import visible_pairs
from simulator.gpu.operators.timing import Rates, soft_max, stream_us
from workloads.errors import UserError

SLACK = 1 + 1e-9
DOUBLES = 2 ** np.arange(0, 9)


def peaks(gpu):
    """(FLOP a us, bytes a us) by the data sheet."""
    return 2e-3 * gpu.fp16.macs_per_cycle * gpu.chip.sms * gpu.chip.clock_mhz * 1e3, gpu.memory.bandwidth_gbps * 1e3


def kernels(kind):
    return [(name, key) for name in GPUS for key in getattr(load_gpu(name).operators, kind)]


def grows(times, axis):
    return (np.diff(times, axis=axis) >= -1e-9 * times.max()).all()


@pytest.mark.parametrize(("name", "key"), kernels("decode"))
def test_decode_is_no_faster_than_its_bytes_and_never_faster_for_more(name, key):
    gpu = load_gpu(name)
    for heads, kv_heads, head_dim in ((32, 8, 128), (8, 1, 128), (32, 32, 64), (64, 8, 128)):
        batch, kv = np.arange(1, 300, 7), np.array([1, 64, 128, 129, 500, 1024, 4097, 20000, 131072])
        b, t = np.meshgrid(batch, kv, indexing="ij")
        got = decode(gpu, b.ravel(), t.ravel(), heads, kv_heads, head_dim, kernel=key).latency_us.reshape(b.shape)
        flops, moved = peaks(gpu)
        assert (got * SLACK >= 4 * b * t * kv_heads * head_dim / moved).all()
        assert (got * SLACK >= 4 * b * t * heads * head_dim / flops).all()
        assert grows(got, 0)
        assert grows(got, 1)


@pytest.mark.parametrize(("name", "key"), kernels("prefill"))
def test_prefill_is_no_faster_than_its_products_and_never_faster_for_more(name, key):
    gpu = load_gpu(name)
    b, q, past = (
        each.ravel() for each in np.meshgrid([1, 2, 3, 8, 64], [1, 63, 128, 1000, 8192], [0, 100, 8192], indexing="ij")
    )
    got = prefill(gpu, b, q, q + past, 32, 8, 128, kernel=key).latency_us
    flops, moved = peaks(gpu)
    assert (got * SLACK >= 4 * 128 * 32 * b * visible_pairs(q, q + past, q + past) / flops).all()
    assert (got * SLACK >= (4 * b * q * 32 * 128 + 4 * b * (q + past) * 8 * 128) / moved).all()
    times = got.reshape(5, 5, 3)
    assert all(grows(times, axis) for axis in range(3))
    windows = prefill(gpu, 2, 4096, 8192, 32, 8, 128, window=np.array([1, 100, 4096, 8191, 8192, 9000, 0]), kernel=key)
    assert grows(windows.latency_us, 0)
    assert windows.latency_us[4] == windows.latency_us[5] == windows.latency_us[6]


@pytest.mark.parametrize("name", GPUS)
@pytest.mark.parametrize("kind", VALUES_MOVED)
def test_elementwise_is_no_faster_than_its_bytes_and_never_faster_for_more(name, kind):
    gpu = load_gpu(name)
    rows, cols = np.meshgrid([1, 7, 108, 216, 217, 4096, 60000], [64, 128, 4096, 11008, 28672], indexing="ij")
    got = elementwise(gpu, kind, rows.ravel(), cols.ravel()).latency_us.reshape(rows.shape)
    assert (got * SLACK >= 2 * VALUES_MOVED[kind] * rows * cols / peaks(gpu)[1]).all()
    assert grows(got, 0)
    assert grows(got, 1)
    assert (elementwise(gpu, kind, 1, 4096, host=False).latency_us <= elementwise(gpu, kind, 1, 4096).latency_us).all()


@pytest.mark.parametrize("name", GPUS)
def test_moe_is_no_faster_than_its_weights_and_never_faster_for_more_tokens(name):
    gpu = load_gpu(name)
    tokens = np.arange(1, 600)
    for routing in ("uniform", "balanced", "power_law"):
        got = moe(gpu, tokens, 2048, 768, 128, 8, routing).latency_us
        assert grows(got, 0)
    distinct = np.minimum(128, tokens * 8)
    assert (got * SLACK >= 0).all()
    balanced = moe(gpu, tokens, 2048, 768, 128, 8, "balanced").latency_us
    flops, moved = peaks(gpu)
    assert (balanced * SLACK >= 6 * distinct * 2048 * 768 / moved).all()
    assert (balanced * SLACK >= 6 * tokens * 8 * 2048 * 768 / flops).all()
    listed = moe(gpu, 64, 2048, 768, 128, 8, "listed", np.arange(8, 129)).latency_us
    assert grows(listed, 0)
    shape = (64, 2048, 768, 128, 8)
    assert moe(gpu, *shape, "listed", 128).latency_us == moe(gpu, *shape, "balanced").latency_us
    few = moe(gpu, *shape, weight_bits=4)
    assert few.latency_us < moe(gpu, *shape).latency_us
    assert few.latency_error_p90 >= gpu.operators.weight_only.error_p90
    assert "weights of 4 bits" in few.extrapolated[0]


@pytest.mark.parametrize(("name", "key"), kernels("all_reduce"))
def test_all_reduce_is_no_faster_than_its_links_and_never_faster_for_more(name, key):
    gpu = load_gpu(name)
    links = gpu.operators.links
    message = np.unique(np.geomspace(2, 2**32, 300).astype(np.int64))
    counts = np.arange(2, links.gpus + 1)
    got = np.stack([all_reduce(gpu, count, message, key).latency_us for count in counts])
    assert (got * SLACK >= 2 * (counts[:, None] - 1) / counts[:, None] * message / (links.gbps * 1e3)).all()
    assert grows(got, 1)
    assert grows(got, 0)


@pytest.mark.parametrize("name", GPUS)
def test_linears_are_no_faster_than_their_bytes_and_fewer_bits_are_never_slower(name):
    gpu = load_gpu(name)
    m, n, k = np.array([1, 16, 64, 256, 1024, 4096]), 8192, 4096
    flops, moved = peaks(gpu)
    for key in ("", *gpu.operators.linear):
        got = linear(gpu, m, n, k, kernel=key).latency_us
        assert (got * SLACK >= 2.0 * m * n * k / flops).all()
        assert (got * SLACK >= 2.0 * (n * k + m * k + m * n) / moved).all()
        assert grows(got, 0)
    times = [linear(gpu, 1, n, k, weight_bits=bits, group_size=group).latency_us[0]
             for bits, group in ((16, 0), (8, 0), (4, 32), (4, 128))]  # fmt: skip
    assert times == sorted(times, reverse=True)


def test_the_tokens_that_are_seen_are_those_a_loop_counts():
    for q, past, window in product((1, 3, 8), (0, 5), (1, 2, 4, 7, 13)):
        kv = q + past
        looped = sum(sum(1 for key in range(kv) if key <= past + i and key > past + i - window) for i in range(q))
        assert visible_pairs(np.array([q]), np.array([kv]), np.array([min(window, kv)]))[0] == looped


def test_experts_chosen_are_the_expectation_over_all_choices():
    """Three tokens, two of four experts each, every choice written out."""
    choices = list(combinations(range(4), 2))
    exact = np.mean([len({expert for each in picked for expert in each}) for picked in product(choices, repeat=3)])
    sizes = [np.array([value]) for value in (3, 4, 2)]
    assert experts_chosen(*sizes, "uniform", None)[0] == pytest.approx(exact)
    assert experts_chosen(*sizes, "balanced", None)[0] == 4
    assert experts_chosen(*sizes, "listed", np.array([3]))[0] == 3
    assert experts_chosen(*[np.array([1])] * 3, "uniform", None)[0] == 1


def test_attention_reads_keys_once_for_the_queries_of_a_group():
    gpu = load_gpu("h100-sxm")
    grouped = decode(gpu, 64, 16384, 32, 8, 128).latency_us[0]
    assert grouped == pytest.approx(decode(gpu, 64, 16384, 8, 8, 128).latency_us[0], rel=0.01)
    assert decode(gpu, 64, 16384, 32, 32, 128).latency_us[0] > 3.5 * grouped
    assert decode(gpu, 64, 16384, 32, 8, 128, kv_bits=8).latency_us[0] < 0.6 * grouped
    assert decode(gpu, 64, 16384, 32, 8, 128, window=4096).latency_us == decode(gpu, 64, 4096, 32, 8, 128).latency_us


def test_what_fits_into_a_warm_l2_takes_less_and_a_cold_one_never():
    rates = Rates(100.0, 1.0, 1e6, 1e6, 10e6, True)
    moved = np.array([1e5, 1e6, 1e9])
    warm = stream_us(moved, rates, 0.5, 1.0, 0.25)
    assert warm[0] == pytest.approx(0.25 * moved[0] / 0.5e6, rel=1e-3)
    assert warm[2] == pytest.approx(moved[2] / 0.5e6, rel=1e-3)
    assert stream_us(moved, rates._replace(l2_warm=False), 0.5, 1.0, 0.25) == pytest.approx(moved / 0.5e6)
    assert soft_max(1.0, np.array([2.0]), np.array([3.0])) == pytest.approx([5.0])
    assert soft_max(2.0, np.array([3.0]), np.array([4.0])) == pytest.approx([5.0])


@pytest.mark.parametrize(
    ("what", "got", "low", "high"),
    [
        # TFLOP/s of causal attention, head_dim 128, 16k tokens, as vLLM runs FA3 and FA2 (aiconfigurator)
        ("h100 prefill", lambda: tflops("h100-sxm"), 580, 680),
        ("a100 prefill", lambda: tflops("a100-sxm"), 165, 207),
        # NCCL, eight GPUs, 64 MiB (nccl-tests, Vidur)
        ("a100 nccl", lambda: all_reduce(load_gpu("a100-sxm"), 8, 1 << 26).latency_us[0], 590, 750),
        ("h100 nccl", lambda: all_reduce(load_gpu("h100-sxm"), 8, 1 << 26).latency_us[0], 310, 400),
        ("custom", lambda: all_reduce(load_gpu("h100-sxm"), 2, 2048, "vllm-custom").latency_us[0], 4, 5),
        # gelu of the largest tensors, 1.56 TB/s (LLMCompass)
        ("gelu", lambda: 4 * 2**29 / elementwise(load_gpu("a100-sxm"), "gelu", 1, 2**29).latency_us[0] / 1e6, 1.4, 1.7),
    ],
)
def test_published_anchors(what, got, low, high):
    assert low < got() < high


def tflops(name):
    time = prefill(load_gpu(name), 1, 16384, 16384, 32, 8, 128, kv_write=False).latency_us[0]
    return 2 * 128 * 32 * 16384 * 16385 / time / 1e6


def test_cards_without_data_and_changed_keys_say_so():
    for name in ("a100-pcie", "h200", "b200"):
        got = decode(load_gpu(name), 1, 1024, 32, 8, 128)
        assert got.extrapolated[0].startswith("card as set not measured")
        assert "no data of this card" in got.basis
    measured = decode(load_gpu("a100-sxm"), np.array([8, 1024]), 1024, 32, 8, 128)
    assert measured.extrapolated.tolist() == ["", "batch 1024 above 128"]
    assert measured.latency_error_p90[1] > measured.latency_error_p90[0] > 0
    changed = decode(load_gpu("a100-sxm", ["memory.bandwidth_gbps=2500"]), 8, 1024, 32, 8, 128)
    assert changed.extrapolated[0] == "card as set not measured"
    assert "memory.bandwidth_gbps=2500" in changed.basis
    slower, faster = (decode(load_gpu(name), 64, 16384, 32, 8, 128).latency_us for name in ("h100-sxm", "h200"))
    assert faster < slower


def test_stated_errors_are_complete():
    for name in GPUS:
        operators = load_gpu(name).operators
        for kind in ("prefill", "decode", "elementwise", "moe", "linear", "all_reduce"):
            for kernel in getattr(operators, kind).values():
                error = kernel.error
                assert all(0 < median <= p90 for median, p90 in zip(error.median, error.p90, strict=True))
                assert error.basis
                assert dataclasses.is_dataclass(kernel.data)
    with pytest.raises(UserError, match="regimes"):
        Residuals(("fixed", "walk"), (0.1,), (0.1, 0.2), 0.0, "none")


def test_a_step_is_its_kernels_or_the_host_that_launches_them():
    eager, graph = STACKS["eager"], STACKS["cuda-graph"]
    assert step_us(10.0, 100, eager) == 100 * eager.launch_us + eager.step_us
    assert step_us(1e5, 100, eager) == 1e5 + 100 * eager.gap_us + eager.step_us
    assert step_us(1e5, 100, graph) == 1e5 + graph.step_us
    assert (np.diff(step_us(np.arange(0, 2000, 7.0), 100, eager)) >= 0).all()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda gpu: decode(gpu, 1, 128, 30, 8, 128), "heads = 30"),
        (lambda gpu: decode(gpu, 1, 0, 32, 8, 128), "kv_tokens = 0"),
        (lambda gpu: decode(gpu, 1.5, 1, 32, 8, 128), "batch must be whole"),
        (lambda gpu: decode(gpu, 1, 1, 32, 8, 128, kv_bits=4), "kv_bits = 4"),
        (lambda gpu: decode(gpu, 1, 1, 32, 8, 128, kernel="fa9"), "no kernel 'fa9'"),
        (lambda gpu: prefill(gpu, 1, 129, 128, 32, 8, 128), "q_tokens = 129"),
        (lambda gpu: moe(gpu, 1, 64, 64, 8, 9), "top_k = 9"),
        (lambda gpu: moe(gpu, 1, 64, 64, 8, 2, "listed"), "distinct_experts"),
        (lambda gpu: moe(gpu, 1, 64, 64, 8, 2, "listed", 3), "at most 2"),
        (lambda gpu: moe(gpu, 1, 64, 64, 8, 2, "random"), "unknown routing"),
        (lambda gpu: moe(gpu, 1, 64, 64, 8, 2, weight_bits=0), "weight_bits = 0: kernels are known"),
        (lambda gpu: all_reduce(gpu, 9, 1024), "gpus = 9: NVLink joins 8"),
        (lambda gpu: all_reduce(gpu, 1, 1024), "gpus = 1"),
        (lambda gpu: elementwise(gpu, "tanh", 1, 64), "unknown elementwise"),
        (lambda gpu: linear(gpu, 1, 64, 64, "fp8"), "no fp8"),
        (lambda gpu: linear(gpu, 1, 64, 64, weight_bits=3), "weight_bits = 3"),
        (lambda gpu: linear(gpu, 1, 64, 64, "int8", weight_bits=4), "16-bit inputs"),
        (lambda gpu: all_reduce(load_gpu("rtx-4090"), 2, 1024), "no NVLink"),
        (lambda gpu: decode(dataclasses.replace(gpu, operators=None), 1, 1, 32, 8, 128), "no section"),
    ],
)  # fmt: skip
def test_bad_values_are_told(call, said):
    with pytest.raises(UserError, match=said):
        call(load_gpu("a100-sxm"))
