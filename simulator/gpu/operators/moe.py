"""The FFNs of a mixture of experts, gate, up and down of all experts in one call, router left out.

    time = fixed + soft maximum of (compute, memory)
    memory = (weights of the experts that any token chose + activations) / (bandwidth * efficiency)
    compute = 6 * hidden * expert_ffn * (tokens * top_k + padding of the chosen experts' tiles) / (efficiency * peak)

Up to one token an expert the kernel takes small tiles, above it large ones, which read weights at a lower rate (the
default table of vLLM's fused kernel, which the data ran).

Experts chosen: routing "uniform", independent choices: E (1 - (1 - k/E)^T); "balanced": min(E, k T); "listed": as
given; "power_law": as uniform, and the fullest expert makes the products take longer. Shared experts are linears.

weight_bits 8 or 4: fewer bytes of weights at the rate of 16-bit ones, which no data show; the error is no less than
that of weight-only linears, and `extrapolated` says so.
"""

import numpy as np
from numpy.typing import ArrayLike

from simulator.gpu.operator_parameters import MoeKernel
from simulator.gpu.operators.timing import (
    Parts,
    Rates,
    Timing,
    check_weight_bits,
    chosen,
    of_fewer_bits,
    operators_of,
    parts_of,
    rates_of,
    soft_max,
    timing_of,
)  # fmt: skip
from simulator.gpu.sizes import whole_numbers
from simulator.gpu.spec import GpuSpec
from workloads.errors import UserError, unknown
from workloads.experts import ROUNDING

ROUTINGS = ("uniform", "balanced", "power_law", "listed")


def moe(
    gpu: GpuSpec, tokens: ArrayLike, hidden: ArrayLike, expert_ffn: ArrayLike, experts: ArrayLike, top_k: ArrayLike,
    routing: str = "uniform", distinct_experts: ArrayLike | None = None, weight_bits: int = 16, kernel: str = "",
) -> Timing:  # fmt: skip
    """One call on one GPU; integers or integer arrays that broadcast. distinct_experts: with routing "listed" alone, a
    mean over steps too, so any numbers.
    Raises UserError for sizes that are none, top_k above experts, and distinct experts that the tokens cannot
    choose."""
    operators = operators_of(gpu)
    name, fitted = chosen(operators.moe, kernel, "moe")
    check_weight_bits(weight_bits)
    sizes = whole_numbers(tokens=tokens, hidden=hidden, expert_ffn=expert_ffn, experts=experts, top_k=top_k)
    given = [] if distinct_experts is None else [np.atleast_1d(np.asarray(distinct_experts, dtype=float))]
    t, h, f, e, k, *listed = np.broadcast_arrays(*sizes, *given)
    distinct = experts_chosen(t, e, k, routing, listed[0] if listed else None)
    parts = moe_parts(fitted, rates_of(gpu), (t, h, f, e, k), distinct, routing == "power_law", weight_bits / 8)
    quantities = {"tokens": t, "hidden": h, "expert_ffn": f, "experts": e, "top_k": k}
    timing = timing_of(name, fitted.data, fitted.error, parts, quantities)
    return timing if weight_bits == 16 else of_fewer_bits(timing, operators.weight_only.error_p90, weight_bits)


def experts_chosen(
    tokens: np.ndarray, experts: np.ndarray, top_k: np.ndarray, routing: str, listed: np.ndarray | None
) -> np.ndarray:
    """(shapes,) how many experts' weights are read, expected. Raises UserError."""
    if routing not in ROUTINGS:
        raise unknown("routing", routing, ROUTINGS)
    for i in np.flatnonzero(top_k > experts)[:1]:
        raise UserError(f"top_k = {top_k[i]} is above experts = {experts[i]}")
    if (listed is None) != (routing != "listed"):
        raise UserError(f"routing {routing!r}: `distinct_experts` goes with routing listed, and routing listed with it")
    most = np.minimum(experts, tokens * top_k)
    if listed is not None:
        for i in np.flatnonzero(~(listed <= most * (1 + ROUNDING)))[:1]:
            raise UserError(f"distinct_experts = {listed[i]:g}: {tokens[i]} tokens choose at most {most[i]}")
        for i in np.flatnonzero(listed < top_k * (1 - ROUNDING))[:1]:
            raise UserError(f"distinct_experts = {listed[i]:g}: a token chooses {top_k[i]}, so they are no fewer")
        return listed.astype(float)
    if routing == "balanced":
        return most.astype(float)
    return experts * (1.0 - (1.0 - top_k / experts) ** tokens)


def moe_parts(
    p: MoeKernel, rates: Rates, sizes: tuple[np.ndarray, ...], distinct: np.ndarray, skewed: bool | np.ndarray,
    weight_bytes: float = 2.0,
) -> Parts:  # fmt: skip
    tokens, hidden, expert_ffn, experts, top_k = (size.astype(float) for size in sizes)
    moved = 3.0 * distinct * hidden * expert_ffn * weight_bytes + 2.0 * tokens * top_k * (2 * hidden + 3 * expert_ffn)
    efficiency = p.memory_efficiency * np.where(tokens <= experts, 1.0, p.large_memory)
    memory = moved / (rates.bytes_per_us * efficiency)
    flops = 6.0 * hidden * expert_ffn * tokens * top_k
    padded = flops + 6.0 * hidden * expert_ffn * distinct * p.padding_tokens
    compute = padded * np.where(skewed, p.skew, 1.0) / (rates.flops_per_us * p.efficiency)
    roof = np.maximum(moved / rates.bytes_per_us, flops / rates.flops_per_us)
    total = p.fixed_us + soft_max(p.overlap, compute, memory)
    return parts_of(roof, total, p.fixed_us, memory=memory, compute=compute)
