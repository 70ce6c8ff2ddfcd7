"""Attention in prefill: many new tokens a sequence, causal, over what came before them (chunks, sliding windows).

A CTA computes a tile of 128 queries of one head and walks over the keys they see. Only visible pairs are multiplied;
the corners of tiles that the mask cuts off, and start and end of a tile, count as so many more keys for each query
(`overhead_tokens`), which is the ramp of FLOP/s with length that published figures show. A pair also costs an
exponential, whatever head_dim is (`softmax_dims`): why small heads reach fewer FLOP/s.

    time = fixed + passes over queries and outputs + write of new keys and values + soft maximum of (compute, memory)
    compute = soft maximum of (all products at efficiency * peak, the longest tile on one SM), slower where it is long
              against the power regulator

K and V are read once: neighbouring CTAs find them in the L2. `kv_write=False` leaves the write into the cache out, a
kernel of its own that serving stacks run before (and that the data contain). Mixed lengths in a batch are absent.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from simulator.gpu.operator_parameters import PrefillKernel
from simulator.gpu.operators.heads import checked_heads, checked_kv_bits
from simulator.gpu.operators.timing import (
    Parts,
    Rates,
    Timing,
    chosen,
    operators_of,
    parts_of,
    rates_of,
    soft_max,
    timing_of,
)  # fmt: skip
from simulator.gpu.sizes import whole_numbers
from simulator.gpu.spec import GpuSpec
from workloads.errors import UserError

OF_HEAD_DIM = 128  # overhead_tokens are keys of this head_dim, whatever that of the heads is
STREAM = 0.85  # of the bandwidth, for bytes that the products hide anyway


class PrefillShape(NamedTuple):
    """(shapes,) each; kv_tokens holds the new ones; window is at most kv_tokens."""

    batch: np.ndarray
    q_tokens: np.ndarray
    kv_tokens: np.ndarray
    heads: np.ndarray
    kv_heads: np.ndarray
    head_dim: np.ndarray
    window: np.ndarray
    kv_bytes: float = 2.0
    kv_write: bool = True


def prefill(
    gpu: GpuSpec, batch: ArrayLike, q_tokens: ArrayLike, kv_tokens: ArrayLike, heads: ArrayLike, kv_heads: ArrayLike,
    head_dim: ArrayLike, window: ArrayLike = 0, kv_bits: int = 16, kv_write: bool = True, kernel: str = "",
) -> Timing:  # fmt: skip
    """One causal attention kernel, all heads of one layer on one GPU; integers or integer arrays that broadcast.

    q_tokens: new tokens a sequence; kv_tokens: keys that the last of them sees, itself included; window: at most so
    many of them, 0 for all. kernel: a name of the preset's operators.prefill, "" for the first.
    Raises UserError for sizes that are none, q_tokens above kv_tokens and heads that kv_heads do not divide.
    """
    name, fitted = chosen(operators_of(gpu).prefill, kernel, "attention in prefill")
    sizes = whole_numbers(
        batch=batch, q_tokens=q_tokens, kv_tokens=kv_tokens, heads=heads, kv_heads=kv_heads, head_dim=head_dim
    )
    b, q, kv, h, g, d, w = np.broadcast_arrays(*sizes, *whole_numbers(least=0, window=window))
    checked_heads(h, g)
    for i in np.flatnonzero(q > kv)[:1]:
        raise UserError(f"q_tokens = {q[i]} is above kv_tokens = {kv[i]}, which holds the new tokens too")
    window_ = np.where(w > 0, np.minimum(w, kv), kv)
    shape = PrefillShape(b, q, kv, h, g, d, window_, checked_kv_bits(kv_bits) / 8, kv_write)
    parts = prefill_parts(fitted, rates_of(gpu), shape)
    quantities = {
        "batch": b, "q_tokens": q, "kv_tokens": kv, "heads": h, "kv_heads": g, "head_dim": d, "queries_per_kv": h / g,
    }  # fmt: skip
    return timing_of(name, fitted.data, fitted.error, parts, quantities)


def visible_pairs(q: np.ndarray, kv: np.ndarray, window: np.ndarray) -> np.ndarray:
    """(shapes,) keys that the q new tokens see, summed: token t of them (from 1) sees min(kv - q + t, window)."""
    past = (kv - q).astype(float)
    growing = np.clip(window - past, 0, q)
    return growing * past + growing * (growing + 1) / 2 + (q - growing) * window


def prefill_parts(p: PrefillKernel, rates: Rates, s: PrefillShape) -> Parts:
    pairs = visible_pairs(s.q_tokens, s.kv_tokens, s.window)
    rate = rates.flops_per_us * p.efficiency
    a_pair = 4.0 * (s.head_dim + p.softmax_dims)  # FLOP that would take as long
    a_query = 4.0 * (OF_HEAD_DIM + p.softmax_dims) * p.overhead_tokens
    whole = s.batch * s.heads * (a_pair * pairs + a_query * s.q_tokens) / rate
    keys = np.minimum(s.kv_tokens, s.window + p.query_tile)
    longest = p.query_tile * (a_pair * keys + a_query) / (rate / rates.sms) * p.lone_tile
    compute = soft_max(p.overlap, whole, longest)
    compute = compute * (1 + p.throttle * compute / (compute + p.throttle_us))

    queries = 4.0 * s.batch * s.q_tokens * s.heads * s.head_dim
    keys_seen = np.minimum(s.kv_tokens, s.window + s.q_tokens)
    cached = 2.0 * s.batch * keys_seen * s.kv_heads * s.head_dim * s.kv_bytes
    written = 4.0 * s.batch * s.q_tokens * s.kv_heads * s.head_dim if s.kv_write else np.zeros(len(s.batch))
    memory = (queries + cached) / (rates.bytes_per_us * STREAM)
    beside = (p.query_passes * queries + p.write_passes * written) / rates.bytes_per_us
    flops = 4.0 * s.head_dim * s.batch * s.heads * pairs
    roof = np.maximum((queries + cached) / rates.bytes_per_us, flops / rates.flops_per_us)
    total = p.fixed_us + beside + soft_max(3.0, compute, memory)
    return parts_of(roof, total, p.fixed_us, memory=memory + beside, compute=compute)
