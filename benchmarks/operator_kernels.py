"""Which kernels are fitted to what: bounds of the parameters, the formula, the four-number baseline beside it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import operator_data as data
from simulator.gpu import load_gpu
from simulator.gpu.operator_parameters import (
    AllReduceKernel,
    Data,
    DecodeKernel,
    LinearKernel,
    MoeKernel,
    PrefillKernel,
    Residuals,
    RowKernel,
    SpmvKernel,
)
from simulator.gpu.operators.all_reduce import all_reduce_parts
from simulator.gpu.operators.decode import DecodeShape, decode_parts
from simulator.gpu.operators.elementwise import VALUES_MOVED, elementwise_parts
from simulator.gpu.operators.linear import cold_rates, family_of, linear_parts
from simulator.gpu.operators.moe import moe_parts
from simulator.gpu.operators.prefill import PrefillShape, prefill_parts, visible_pairs
from simulator.gpu.operators.spmv import SpmvShape, random_shape, spmv_parts, weight_bytes
from simulator.gpu.operators.timing import Parts, Rates, rates_of
from simulator.gpu.prediction import tiles_of

Bounds = dict[str, tuple[float, float, float]]  # name: lowest, start (a fit is drawn to it), highest
Formula = Callable[[Any, pd.DataFrame], Parts]
# NVIDIA's data sheet of the RTX PRO 6000 Blackwell Server Edition: no preset, its experts stand in for the RTX 4090's.
RTX_PRO_6000 = Rates(188.0, 2.617, 503.8e6, 1792e3, 128 * 2**20, True)
LINKS = {"a100-sxm": 300e3, "h100-sxm": 450e3}  # NVLink, data sheet, bytes a us each way

DECODE: Bounds = {
    "fixed_us": (2, 12, 30), "split_us": (0.01, 3, 12), "merge_us": (0.001, 0.05, 1), "token_us": (1e-4, 8e-3, 0.2),
    "overhead_tokens": (1, 16, 100), "memory_efficiency": (0.4, 0.8, 0.98), "l2_usable": (0.1, 0.7, 1.3),
    "l2_time": (0.1, 0.4, 1), "overlap": (1, 2.5, 8),
}  # fmt: skip
PREFILL: Bounds = {
    "fixed_us": (2, 12, 30), "overhead_tokens": (1, 250, 3000), "efficiency": (0.05, 0.7, 1),
    "lone_tile": (0.1, 1, 3), "overlap": (1, 2.5, 8), "query_passes": (0.01, 0.5, 4), "write_passes": (0.3, 2, 8),
    "throttle": (0.001, 0.1, 1), "throttle_us": (100, 3000, 30000),
}  # fmt: skip
ROWS: Bounds = {
    "fixed_us": (0.3, 2, 60), "walk_us": (1e-3, 0.3, 10), "memory_efficiency": (0.1, 0.7, 0.98),
    "l2_usable": (0.1, 0.6, 1.5), "l2_time": (0.1, 0.5, 1),
}  # fmt: skip
# FA3's figure on H100 (long sequences, not causal): 497, 648 and 746 TFLOP/s with head_dim 64, 128 and 256 are what 45
# to 56 more values a head would make; left-out geometries agree best with 32. SMs of all generations have as many
# exponentials a cycle, so it follows their MACs.
MACS_AN_EXPONENTIAL = 64
POINTWISE = ("gelu", "residual_add", "embedding")  # elements over all SMs: no walk
MOE: Bounds = {
    "fixed_us": (2, 25, 80), "memory_efficiency": (0.3, 0.8, 0.98), "large_memory": (0.4, 0.8, 1),
    "efficiency": (0.05, 0.4, 0.95), "padding_tokens": (0.5, 8, 64), "overlap": (1, 2, 8), "skew": (1, 1.1, 2),
}  # fmt: skip
ALL_REDUCE: Bounds = {
    "fixed_us": (1, 8, 40), "gpu_us": (0.01, 1, 6), "small_efficiency": (0.02, 0.3, 1), "large_us": (3, 30, 150),
    "large_efficiency": (0.1, 0.6, 0.98), "switch_bytes": (1e5, 2e6, 2e7),
}  # fmt: skip
SPMV: Bounds = {"fixed_us": (1, 10, 60), "memory_efficiency": (0.5, 0.9, 1)}
FLUSH: Bounds = {"flush_us": (1, 50, 200)}
ROW: Bounds = {"row_values": (500, 5000, 1e5), "row_exponent": (0.5, 2, 4)}
LINEAR: Bounds = {
    # the tile model's; started from what the best library kernels were fitted to
    "fixed_us": (1, 4, 12), "efficiency": (0.05, 0.9, 1), "small_tile": (0.001, 0.05, 1), "pj_per_flop": (0.02, 1, 3),
    "raster_tiles": (1, 2.5, 64), "step_cycles": (10, 300, 1500), "fill_cycles": (50, 1000, 9000),
    "reduce_us": (0.3, 6, 60), "memory_efficiency": (0.3, 0.85, 0.97), "l2_bytes_per_cycle": (16, 60, 160),
    "l2_usable": (0.1, 0.7, 1.3), "response_us": (1, 80, 3000),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One kernel of one card."""

    preset: str
    kind: str  # a field of Operators
    name: str
    kernel: Any  # a class of operator_parameters
    words: dict[str, Any]  # what is not fitted
    bounds: Bounds
    rows: pd.DataFrame
    formula: Formula
    flops: np.ndarray  # of the baseline: useful ones, at their peak in FLOP/us
    moved: np.ndarray  # bytes once
    peak: float
    bandwidth: float
    quantities: tuple[str, ...]  # whose range is stated
    edges: tuple[str, ...]  # whose ends are left out to see what an octave outside costs
    card: str
    ramp: np.ndarray = field(default_factory=lambda: np.zeros(0))  # of the baseline: tokens a sequence, or none

    def made(self, values: dict[str, float], ranges: Data | None = None, error: Residuals | None = None) -> Any:
        unknown = Residuals(("fixed",), (0.5,), (0.5,), 0.0, "not stated")
        return self.kernel(**(self.words | values), data=ranges or Data("", {}), error=error or unknown)


def columns(rows: pd.DataFrame, *names: str) -> list[np.ndarray]:
    return [rows[name].to_numpy(dtype=float) for name in names]


def decode_shape(rows: pd.DataFrame) -> DecodeShape:
    b, kv, h, g, d, w = columns(rows, "batch", "kv_tokens", "heads", "kv_heads", "head_dim", "window")
    return DecodeShape(b, np.where(w > 0, np.minimum(kv, w), kv), h, g, d)


def prefill_shape(rows: pd.DataFrame) -> PrefillShape:
    b, q, kv, h, g, d, w = columns(rows, "batch", "q_tokens", "kv_tokens", "heads", "kv_heads", "head_dim", "window")
    return PrefillShape(b, q, kv, h, g, d, np.where(w > 0, np.minimum(kv, w), kv))


ATTENTION = ("batch", "kv_tokens", "heads", "kv_heads", "head_dim", "queries_per_kv")


def decode_case(preset: str, gpu: str, name: str, label: str, split: str, ctas_per_sm: int) -> Case:
    rows, rates = data.attention("decode", gpu, label), rates_of(load_gpu(preset))
    s = decode_shape(rows)
    words = {"label": label, "split": split, "ctas_per_sm": ctas_per_sm, "block_tokens": 128}
    moved = 4.0 * s.batch * s.kv_tokens * s.kv_heads * s.head_dim + 4.0 * s.batch * s.heads * s.head_dim
    return Case(
        preset, "decode", name, DecodeKernel, words, DECODE, rows,
        lambda p, some: decode_parts(p, rates, decode_shape(some)), np.zeros(len(rows)), moved, rates.flops_per_us,
        rates.bytes_per_us, ATTENTION, ("batch", "kv_tokens"), f"{rows['gpu'][0]}, {label}",
    )  # fmt: skip


def prefill_case(preset: str, gpu: str, name: str, label: str) -> Case:
    rows, rates = data.attention("prefill", gpu, label), rates_of(load_gpu(preset))
    s = prefill_shape(rows)
    flops = 4.0 * s.batch * s.heads * s.head_dim * visible_pairs(s.q_tokens, s.kv_tokens, s.window)
    moved = 4.0 * s.batch * s.head_dim * (s.q_tokens * s.heads + s.kv_tokens * s.kv_heads)
    softmax_dims = round(load_gpu(preset).fp16.macs_per_cycle / MACS_AN_EXPONENTIAL)
    words = {"label": label, "query_tile": 128, "softmax_dims": float(softmax_dims)}
    return Case(
        preset, "prefill", name, PrefillKernel, words, PREFILL, rows,
        lambda p, some: prefill_parts(p, rates, prefill_shape(some)), flops, moved, rates.flops_per_us,
        rates.bytes_per_us, (*ATTENTION, "q_tokens"), ("batch", "kv_tokens"), f"{rows['gpu'][0]}, {label}",
        ramp=s.q_tokens,
    )  # fmt: skip


def elementwise_case(preset: str, gpu: str, kind: str) -> Case:
    rows, rates = data.row_kernels(gpu, kind), rates_of(load_gpu(preset))
    layers = kind in data.ELEMENTWISE
    label = f"{kind} ({'Vidur' if layers else 'LLMCompass, the clock of the host'})"
    bounds = {key: value for key, value in ROWS.items() if key != "walk_us" or kind not in POINTWISE}
    words: dict[str, Any] = {"label": label, "host_us": 0.0} | ({"walk_us": 0.0} if kind in POINTWISE else {})
    pointwise = kind in POINTWISE

    def formula(p: RowKernel, some: pd.DataFrame) -> Parts:
        n, cols = columns(some, "rows", "cols")
        return elementwise_parts(p, rates, VALUES_MOVED[kind], n, cols)

    rows = rows.assign(values=rows["rows"] * rows["cols"])
    moved = 2.0 * VALUES_MOVED[kind] * rows["values"].to_numpy(dtype=float)
    return Case(
        preset, "elementwise", kind, RowKernel, words, bounds, rows,
        formula, np.zeros(len(rows)), moved, rates.flops_per_us, rates.bytes_per_us,
        ("values",) if pointwise else ("rows", "cols"), ("values",) if pointwise else ("rows",),
        f"{rows['gpu'][0]}, {'Vidur' if layers else 'LLMCompass'}",
    )  # fmt: skip


def chosen_experts(rows: pd.DataFrame) -> np.ndarray:
    t, e, k, listed = columns(rows, "tokens", "experts", "top_k", "distinct_experts")
    expected = np.where(rows["routing"] == "balanced", np.minimum(e, k * t), e * (1 - (1 - k / e) ** t))
    return np.where(listed > 0, listed, expected)


def moe_case(preset: str, gpu: str) -> Case:
    rows = data.experts(gpu)
    rates = RTX_PRO_6000 if gpu == "RTXPRO" else rates_of(load_gpu(preset))
    sizes = ("tokens", "hidden", "expert_ffn", "experts", "top_k")

    def formula(p: MoeKernel, some: pd.DataFrame) -> Parts:
        skewed = some["routing"].str.startswith("power_law").to_numpy()
        return moe_parts(p, rates, tuple(columns(some, *sizes)), chosen_experts(some), skewed)

    t, h, f, _, k = columns(rows, *sizes)
    return Case(
        preset, "moe", "fused-moe", MoeKernel, {"label": "fused MoE FFN"}, MOE, rows, formula, 6.0 * t * k * h * f,
        6.0 * chosen_experts(rows) * h * f, rates.flops_per_us, rates.bytes_per_us, sizes, ("tokens",), rows["gpu"][0],
    )  # fmt: skip


def all_reduce_case(preset: str, gpu: str, name: str, label: str) -> Case:
    rows, link = data.all_reduces(gpu, label), LINKS[preset]
    one_shot = "custom" in label
    words: dict[str, Any] = {"label": label, "algorithm": "one_shot" if one_shot else "ring"}
    words |= {"step_us" if one_shot else "two_shot_us": 0.0}
    bounds = ALL_REDUCE | ({"two_shot_us": (0.1, 2, 20)} if one_shot else {"step_us": (0.1, 2, 8)})
    if "sarathi" in label:  # a dozen points that scatter by 2: one protocol
        bounds = bounds | {"small_efficiency": (0.9, 0.95, 1)}
    n, message = columns(rows, "gpus", "message_bytes")
    return Case(
        preset, "all_reduce", name, AllReduceKernel, words, bounds, rows,
        lambda p, some: all_reduce_parts(p, link, *columns(some, "gpus", "message_bytes")), np.zeros(len(rows)),
        2 * (n - 1) / n * message, 1.0, link, ("gpus", "message_bytes"), ("message_bytes",),
        f"{rows['gpu'][0]}, {label}",
    )  # fmt: skip


def linear_case(preset: str, gpu: str, name: str, source: str) -> Case:
    rows = data.linears(gpu, source)
    gpu_ = load_gpu(preset)
    rates, tiles = rates_of(gpu_), tiles_of(gpu_, sparse24=False)
    base = gpu_.fp16.dense
    bounds = {
        key: (low, min(max(getattr(base, "launch_us" if key == "fixed_us" else key), low), high), high)
        for key, (low, _, high) in LINEAR.items()
    }

    def formula(p: LinearKernel, some: pd.DataFrame) -> Parts:
        m, n, k = (some[size].to_numpy(dtype=np.int64) for size in "mnk")
        return linear_parts(cold_rates(gpu_, gpu_.fp16, family_of(p)), tiles, m, n, k)

    m, n, k = columns(rows, *"mnk")
    label = "torch linear" if source == "gemm" else "linears of decoder layers (Vidur)"
    return Case(
        preset, "linear", name, LinearKernel, {"label": label}, bounds, rows, formula, 2 * m * n * k,
        2 * (m * k + n * k + m * n), rates.flops_per_us, rates.bytes_per_us, ("m", "n", "k"), ("m",),
        f"{rows['gpu'][0]}, {label}",
    )  # fmt: skip


def spmv_shape(rows: pd.DataFrame) -> SpmvShape:
    return random_shape(*columns(rows, "rows", "cols", "density"))


def spmv_case(preset: str, gpu: str, name: str, label: str, storage: str, bounds: Bounds) -> Case:
    rows, rates = data.spmvs(gpu, label), rates_of(load_gpu(preset))
    s = spmv_shape(rows)
    absent = {key: 0.0 for key in (*FLUSH, *ROW) if key not in bounds}
    return Case(
        preset, "spmv", name, SpmvKernel, {"label": label, "storage": storage} | absent, bounds, rows,
        lambda p, some: spmv_parts(p, rates, spmv_shape(some)), 2 * s.kept, weight_bytes(storage, s),
        rates.flops_per_us, rates.bytes_per_us, ("rows", "cols", "density"), ("rows", "cols", "density"),
        f"{rows['gpu'][0]}, {label}",
    )  # fmt: skip


def cases() -> list[Case]:
    """Those of a preset in the order in which they stand there: the first of a kind is what is meant by default."""
    a, h = ("a100-sxm", "A100"), ("h100-sxm", "H100")
    found = [
        prefill_case(*a, "fa2-vllm", "FA2 (vllm 0.14)"),
        prefill_case(*a, "fa2-sglang", "FA2 (sglang 0.5.10)"),
        prefill_case(*a, "fa-paged-2023", "FA paged KV block16 (sarathi)"),
        decode_case(*a, "fa2-vllm", "FA2 split-KV (vllm 0.14)", "waves", 2),
        decode_case(*a, "fa2-sglang", "FA2 (sglang 0.5.10)", "grid", 1),
        decode_case(*a, "fa-paged-2023", "FA paged KV block16 (sarathi)", "grid", 1),
        prefill_case(*h, "fa3-vllm", "FA3 (vllm 0.24)"),
        prefill_case(*h, "fa3-sglang", "FA3 (sglang 0.5.14)"),
        decode_case(*h, "fa3-vllm", "FA3 (vllm 0.24)", "waves", 1),
        decode_case(*h, "fa3-sglang", "FA3 (sglang 0.5.14)", "waves", 2),
        prefill_case("rtx-4090", "RTX4090", "flash-vllm", "vllm 0.19 flash-attn"),
        decode_case("rtx-4090", "RTX4090", "flash-vllm", "vllm 0.19 flash-attn", "waves", 1),
    ]
    for preset, gpu in (a, h):
        found += [elementwise_case(preset, gpu, kind) for kind in data.ELEMENTWISE]
        found += [moe_case(preset, gpu)]
        found += [linear_case(preset, gpu, "layers", "layers"), linear_case(preset, gpu, "torch", "gemm")]
        found += [
            all_reduce_case(preset, gpu, "nccl", "nccl"),
            all_reduce_case(preset, gpu, "vllm-custom", "vllm custom, cuda graph"),
            all_reduce_case(preset, gpu, "nccl-2023", "nccl (sarathi)"),
        ]
    found += [elementwise_case(*a, kind) for kind in ("softmax", "layernorm", "gelu")]
    found += [
        spmv_case("rtx-4090", "RTX 4090", "macko", "MACKO", "macko", SPMV | FLUSH),
        spmv_case("rtx-4090", "RTX 4090", "csr", "cuSPARSE", "csr", SPMV | ROW),
        spmv_case("rtx-4090", "RTX 4090", "cublas", "cuBLAS", "dense", SPMV),
    ]
    return [*found, moe_case("rtx-4090", "RTXPRO")]
