"""What each operation of a decoder takes on a GPU: which kernel runs it, with which sizes (simulator/gpu/operators).

Kernels that no data show are made of those that there are, and say so in `assumed`:
* an addition with the norm behind it: a norm over twice the columns, as it moves twice the values;
* the write into the KV cache in decode, and the sum of experts: copies of the same bytes (in prefill the write is part
  of the measured attention kernels);
* rows that are gathered: those of an embedding's table; that are added up where indices say: an addition of the same
  bytes;
* a 2:4 GEMM: the dense one of the framework, made faster by what the fastest library kernels show on the same shape;
* one token through a whole matrix, where cuBLAS was measured at just that: that measured
  kernel, with a launch behind another one;
* attention over latents: an attention kernel that reads the same bytes, no faster than its products at the peak rate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simulator.gpu import operators
from simulator.gpu.masked_layers import DENSE_KERNEL
from simulator.gpu.operators.heads import checked_kv_bits
from simulator.gpu.operators.linear import OF_GEMM
from simulator.gpu.operators.spmv import spmv_of_shape, whole_shape
from simulator.gpu.operators.timing import Timing, rates_of
from simulator.gpu.prediction import predict
from simulator.gpu.spec import GpuSpec, cold
from simulator.inference.runner import Numbers, Timed
from workloads.counts import Elements
from workloads.errors import UserError, unknown
from workloads.operations import DecoderOperation
from workloads.operations.causal import CausalAttention, KvWrite, LatentAttention, Rotary
from workloads.operations.elementwise import Activation, Norm, ResidualAdd
from workloads.operations.ends import AllReduce, Embedding
from workloads.operations.expert_ffn import ExpertFfn, ExpertSum
from workloads.operations.gemm import Gemm, Matrix
from workloads.operations.moves import Gather, Scatter
from workloads.patterns import kept_of_four
from workloads.phases import Phase

FLOAT = "fp16"
KV_BITS = 16


# name -> (type of the products, bits of the blocks' weights, inputs that share a scale)
DTYPES: dict[str, tuple[str, int, int | None]] = {
    "fp16": ("fp16", 16, None), "bf16": ("bf16", 16, None), "int8": ("int8", 8, None), "fp8": ("fp8", 8, None),
    "int8-weight": ("fp16", 8, None), "int4": ("fp16", 4, 128),
}  # fmt: skip


def numbers_of(dtype: str, kv_bits: int = KV_BITS, routing: str = "uniform") -> Numbers:
    """int8 and fp8 multiply in that type; int8-weight and int4 (groups of 128) store weights so and multiply in fp16.
    Raises UserError for any other name, and for a cache of bits that no kernel reads."""
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    checked_kv_bits(kv_bits)
    products, bits, group = DTYPES[dtype]
    return Numbers(dtype, products, Elements(bits, group, kv_bits=kv_bits, routing=routing))


def time_of(
    gpu: GpuSpec, operation: DecoderOperation, phases: Sequence[Phase], numbers: Numbers, fuses: bool = False
) -> Timed:
    """Of phases of one name, (phases,) each; `fuses`: elementwise ones as parts of their neighbours. Raises UserError
    for what the GPU has no kernel for."""
    kernel, row_kernel = KERNELS.get(type(operation)), ROW_KERNELS.get(type(operation))
    if row_kernel is not None:
        return _elementwise(gpu, row_kernel(operation, phases), fuses)
    if kernel is None:
        raise UserError(f"{operation.name}: no kernel of a GPU is known that runs it")
    return kernel(gpu, operation, phases, numbers)


def timed(timing: Timing, assumed: str = "") -> Timed:
    return Timed(timing.latency_us, timing.bound, timing.latency_error_p90, timing.extrapolated, timing.kernel, assumed)


def runs_float_products(matrix: Matrix, numbers: Numbers) -> bool:
    """Whether a GEMM multiplies in 16 bits; weights of fewer bits are then a weight-only kernel's."""
    return matrix.is_float or numbers.dtype in ("fp16", "bf16")


def _tokens(phases: Sequence[Phase]) -> np.ndarray:
    return np.array([phase.tokens for phase in phases], dtype=np.int64)


def _gemm(gpu: GpuSpec, one: Gemm, phases: Sequence[Phase], numbers: Numbers) -> Timed:
    matrix = one.matrices[0]
    tokens = np.array([one.tokens(phase) for phase in phases], dtype=np.int64)
    bits = matrix.bits(numbers.elements)
    dtype = FLOAT if matrix.is_float else numbers.dtype
    weight_bits = bits if runs_float_products(matrix, numbers) else 16
    group = (matrix.group_size if matrix.weight_bits else numbers.elements.group_size) or 0
    sizes = tokens, one.out_features, one.in_features
    if kept_of_four(matrix.stored) is None and weight_bits == 16 and (tokens == 1).all() and _has_gemv(gpu, dtype):
        shape = whole_shape(one.out_features, one.in_features)
        timing = spmv_of_shape(gpu, shape, DENSE_KERNEL, alone=False)
        return timed(timing, "a launch of 2 us behind another kernel").of_each(len(phases))
    dense = operators.linear(gpu, *sizes, dtype, weight_bits=weight_bits, group_size=group)
    if kept_of_four(matrix.stored) is None:
        few = dtype in ("int8", "fp8") and bits < 8
        return timed(dense, f"weights of {bits} bits as those of {dtype}" if few else "")
    if weight_bits != 16:
        return replace(timed(dense), unused=f"no kernel for 2:4 weights of {bits} bits: dense")
    found = predict(cold(gpu), *sizes, dtype)
    runs = found.reason == ""
    speedup = np.where(runs, found.speedup, 1.0)
    error = np.hypot(dense.latency_error_p90, np.where(runs, found.speedup_error_p90, 0.0))
    bound = np.where(runs, [OF_GEMM.get(name, name) for name in found.sparse24.bound], dense.bound)
    reason = next(iter(found.reason[~runs]), "")
    unused = f"2:4 runs dense: {reason}" if reason else ""
    return Timed(
        dense.latency_us / speedup, bound, error, dense.extrapolated, f"{dense.kernel} sparse24",
        "" if reason else "2:4 by the library's gain over dense", unused=unused,
    )  # fmt: skip


def _has_gemv(gpu: GpuSpec, dtype: str) -> bool:
    """Whether cuBLAS was measured there at one token, where it takes another kernel than for several."""
    return dtype in ("fp16", "bf16") and gpu.operators is not None and DENSE_KERNEL in gpu.operators.spmv


def _attention(gpu: GpuSpec, one: CausalAttention, phases: Sequence[Phase], numbers: Numbers) -> Timed:
    batch, new, context = (
        np.array([getattr(phase, name) for phase in phases], dtype=np.int64) for name in ("batch", "new", "context")
    )
    size = (one.head_size + one.value_size) // 2  # the same products and bytes
    heads = one.heads, one.kv_heads, size
    window, kv_bits = one.window or 0, numbers.elements.kv_bits
    if phases[0].name == "prefill":
        return timed(operators.prefill(cold(gpu), batch, new, context, *heads, window=window, kv_bits=kv_bits))
    return timed(operators.decode(cold(gpu), batch, context, *heads, window=window, kv_bits=kv_bits))


def _latent_attention(gpu: GpuSpec, one: LatentAttention, phases: Sequence[Phase], numbers: Numbers) -> Timed:
    causal = one.as_causal(phases[0])
    if phases[0].name == "decode":  # keys hold the values: one vector is read for both
        half = (one.latent_size + one.rope_size) // 2
        causal = replace(causal, head_size=half, value_size=half)
    found = _attention(gpu, causal, phases, numbers)
    flop = np.array([one.counts(phase, numbers.elements).flop for phase in phases])
    roof = flop / rates_of(gpu).flops_per_us
    said = np.array(
        [f"attention over latents{', ' if text else ''}{text}" for text in found.extrapolated], dtype=object
    )
    return replace(
        found,
        us=np.maximum(found.us, roof),
        bound=np.where(roof > found.us, "compute", found.bound),
        extrapolated=said,
        assumed="as attention of the same bytes",
    )


@dataclass(frozen=True)
class Values:
    """What a kernel goes over: rows (phases,) and columns of its output; `assumed` as Timed has it."""

    kind: str
    rows: np.ndarray
    cols: int
    assumed: str = ""


def _elementwise(gpu: GpuSpec, one: Values, fused: bool = False) -> Timed:
    said = "; ".join(filter(None, [one.assumed, "its bytes alone: compiled into its neighbours" if fused else ""]))
    return timed(operators.elementwise(gpu, one.kind, one.rows, one.cols, host=False, fused=fused), said)


def _norm(one: Norm, phases: Sequence[Phase]) -> Values:
    kind = "rmsnorm" if one.kind == "rms" else "layernorm"
    twice = 2 if one.adds else 1
    assumed = "the addition: twice the columns" if one.adds else ""
    return Values(kind, _tokens(phases) * one.groups, one.width * twice, assumed)


def _rotary(one: Rotary, phases: Sequence[Phase]) -> Values:
    return Values("rope", _tokens(phases), one.heads * one.size)


def _add(one: ResidualAdd, phases: Sequence[Phase]) -> Values:
    return Values("residual_add", _tokens(phases), one.width)


def _activation(one: Activation, phases: Sequence[Phase]) -> Values:
    return Values("silu_mul" if one.is_gated else "gelu", _tokens(phases), one.width)


def _embedding(gpu: GpuSpec, one: Embedding, phases: Sequence[Phase], numbers: Numbers) -> Timed:
    return _elementwise(gpu, Values("embedding", _tokens(phases), one.width))


def _gather(gpu: GpuSpec, one: Gather, phases: Sequence[Phase], numbers: Numbers) -> Timed:
    return _elementwise(gpu, Values("embedding", _tokens(phases) * one.rows, one.width, "rows as those of a table"))


def _scatter(gpu: GpuSpec, one: Scatter, phases: Sequence[Phase], numbers: Numbers) -> Timed:
    """(rows + 2 sums) x width values, as an addition reads and writes three a value."""
    rows = -(-_tokens(phases) * (one.rows + 2 * one.sums) // 3)
    return _elementwise(gpu, Values("residual_add", rows, one.width, "an addition of the same bytes"))


def _kv_write(gpu: GpuSpec, one: KvWrite, phases: Sequence[Phase], numbers: Numbers) -> Timed:
    if phases[0].name == "prefill":
        nothing = np.zeros(len(phases))
        empty = np.full(len(phases), "", dtype=object)
        return Timed(nothing, empty, nothing, empty, "in attention", "part of the attention kernel's time")
    return _elementwise(gpu, Values("embedding", _tokens(phases), one.width, "a copy of the same bytes"))


def _experts(gpu: GpuSpec, one: ExpertFfn, phases: Sequence[Phase], numbers: Numbers) -> Timed:
    (ups, down, _), *others = one.kinds
    bits = ups[0].bits(numbers.elements)
    alike = all(up.bits(numbers.elements) == bits for up, _, _ in ((kind[0][0], *kind[1:]) for kind in others))
    if not alike:
        raise UserError(f"{one.name}: experts of different bits have no kernel that runs them together")
    masked = {m.stored for ups, down, _ in one.kinds for m in (*ups, down) if kept_of_four(m.stored)}
    routing, distinct = numbers.elements.routing, None
    said = [] if bits == 16 else [f"weights of {bits} bits at the rate of 16-bit ones"]
    if one.counts_seen:
        routing, distinct = "listed", np.array([one.hit(phase, numbers.elements) for phase in phases])
        said.append("of the counts those that are hit; their products as if spread evenly")
    found = timed(
        operators.moe(
            gpu, _tokens(phases), down.out_features, max(round(one.ffn_size), 1), one.experts.count,
            one.experts.per_token, routing=routing, distinct_experts=distinct, weight_bits=bits,
        ),
        "; ".join(said),
    )  # fmt: skip
    return replace(found, unused=f"no kernel for experts of {', '.join(sorted(masked))}: dense" if masked else "")


def _expert_sum(gpu: GpuSpec, one: ExpertSum, phases: Sequence[Phase], numbers: Numbers) -> Timed:
    cols = -(-one.width * (one.per_token + 1) // 3)
    return _elementwise(gpu, Values("residual_add", _tokens(phases), cols, "an addition of the same bytes"))


def _all_reduce(gpu: GpuSpec, one: AllReduce, phases: Sequence[Phase], numbers: Numbers) -> Timed:
    message = np.array([round(one.counts(phase, numbers.elements).bytes_link) for phase in phases], dtype=np.int64)
    return timed(operators.all_reduce(gpu, one.ranks, message))


Kernel = Callable[[GpuSpec, Any, Sequence[Phase], Numbers], Timed]
KERNELS: dict[type[DecoderOperation], Kernel] = {
    Gemm: _gemm, CausalAttention: _attention, LatentAttention: _latent_attention, Embedding: _embedding,
    KvWrite: _kv_write, ExpertFfn: _experts, ExpertSum: _expert_sum, AllReduce: _all_reduce,
    Gather: _gather, Scatter: _scatter,
}  # fmt: skip
RowKernel = Callable[[Any, Sequence[Phase]], Values]  # what a compiler fuses
ROW_KERNELS: dict[type[DecoderOperation], RowKernel] = {
    Norm: _norm, Rotary: _rotary, ResidualAdd: _add, Activation: _activation,
}  # fmt: skip
