"""Attention in decode: one new token a sequence over the keys and values before it.

A CTA walks over the tokens of one sequence and kv head; the query heads of a group share it, up to 64 of them, so
that grouped queries read each key once. Where sequences x kv heads are fewer than the CTAs a card holds, the tokens
are split over more of them (split-KV), and a second kernel merges the parts.

    time = fixed + split + merge * (parts - 1) + soft maximum of (walk, memory)
    walk = waves * (tokens of a part + overhead) * token_us * head_dim / 128
    memory = bytes of K and V, queries and outputs / (bandwidth * efficiency), less where they stay in the L2

`split = "waves"`: FlashAttention's choice, parts that fill the CTAs, none once 80 % are busy without. "grid":
FlashInfer's, the most parts that fit at once: a card with 108 places and 64 sequences runs 64 CTAs.
Measured back to back, so the L2 is warm (memory.l2_warm) as far as keys and values fit, which in a model they do
not: other layers come between. The scheduler's padding of lengths and mixed lengths in a batch are absent.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from simulator.gpu.operator_parameters import DecodeKernel
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
    stream_us,
    timing_of,
)  # fmt: skip
from simulator.gpu.sizes import whole_numbers
from simulator.gpu.spec import GpuSpec

QUERIES_A_CTA = 64
BUSY = 0.8  # of the CTAs a card holds: from there on FlashAttention does not split (its num_splits heuristic)


class DecodeShape(NamedTuple):
    """(shapes,) each; kv_tokens as visible, the new one included."""

    batch: np.ndarray
    kv_tokens: np.ndarray
    heads: np.ndarray
    kv_heads: np.ndarray
    head_dim: np.ndarray
    kv_bytes: float = 2.0  # a value of K and V


def decode(
    gpu: GpuSpec, batch: ArrayLike, kv_tokens: ArrayLike, heads: ArrayLike, kv_heads: ArrayLike, head_dim: ArrayLike,
    window: ArrayLike = 0, kv_bits: int = 16, kernel: str = "",
) -> Timing:  # fmt: skip
    """One attention kernel, all heads of one layer on one GPU; integers or integer arrays that broadcast.

    kv_tokens: keys a sequence sees, the new one included; window: at most so many of them, 0 for all. kv_bits 8 halves
    the bytes of K and V and nothing else (no data). kernel: a name of the preset's operators.decode, "" for the first.
    Raises UserError for sizes that are none and heads that kv_heads do not divide.
    """
    name, fitted = chosen(operators_of(gpu).decode, kernel, "attention in decode")
    b, kv, h, g, d = whole_numbers(batch=batch, kv_tokens=kv_tokens, heads=heads, kv_heads=kv_heads, head_dim=head_dim)
    b, kv, h, g, d, w = np.broadcast_arrays(b, kv, h, g, d, *whole_numbers(least=0, window=window))
    checked_heads(h, g)
    shape = DecodeShape(b, np.where(w > 0, np.minimum(kv, w), kv), h, g, d, checked_kv_bits(kv_bits) / 8)
    parts = decode_parts(fitted, rates_of(gpu), shape)
    quantities = {"batch": b, "kv_tokens": kv, "heads": h, "kv_heads": g, "head_dim": d, "queries_per_kv": h / g}
    return timing_of(name, fitted.data, fitted.error, parts, quantities)


def decode_parts(p: DecodeKernel, rates: Rates, s: DecodeShape) -> Parts:
    """No less than for any smaller batch: where splitting ends, a larger one could else be faster by what merging
    costs. Between the batch up to which all blocks are split and the one at which splitting ends, time is convex."""
    places = rates.sms * p.ctas_per_sm
    a_sequence = s.kv_heads * np.ceil(s.heads / s.kv_heads / QUERIES_A_CTA)
    blocks = np.ceil(s.kv_tokens / p.block_tokens)
    last = places / 2 if p.split == "grid" else BUSY * places * (1 - 1e-9)
    whole = _parts(p, rates, s, s.batch)
    for ctas in (places / blocks, last):
        smaller = np.minimum(np.maximum(ctas / a_sequence, 1.0), s.batch)
        before = _parts(p, rates, s, smaller)
        longer = before.total > whole.total
        whole = Parts(*(np.where(longer, theirs, ours) for theirs, ours in zip(before, whole, strict=True)))
    return whole


def _parts(p: DecodeKernel, rates: Rates, s: DecodeShape, batch: np.ndarray) -> Parts:
    queries = batch * s.heads * s.head_dim
    moved = 2.0 * batch * s.kv_tokens * s.kv_heads * s.head_dim * s.kv_bytes + 4.0 * queries
    ctas = batch * s.kv_heads * np.ceil(s.heads / s.kv_heads / QUERIES_A_CTA)
    places = rates.sms * p.ctas_per_sm
    blocks = np.ceil(s.kv_tokens / p.block_tokens)
    if p.split == "grid":
        parts = np.clip(np.floor(places / ctas), 1, blocks)
        waves = np.ceil(ctas / places)
    else:
        alone = ctas >= BUSY * places
        parts = np.where(alone, 1.0, np.clip(places / ctas, 1, blocks))
        waves = np.where(alone, np.ceil(ctas / places), 1.0)
    tokens = np.maximum(s.kv_tokens / parts, p.block_tokens)
    walk = waves * (tokens + p.overhead_tokens) * p.token_us * s.head_dim / 128
    memory = stream_us(moved, rates, p.memory_efficiency, p.l2_usable, p.l2_time)
    fixed = p.fixed_us + p.split_us * (1 - 1 / parts) + p.merge_us * (parts - 1)
    flops = 4.0 * queries * s.kv_tokens
    roof = np.maximum(moved / rates.bytes_per_us, flops / rates.flops_per_us)
    return parts_of(roof, fixed + soft_max(p.overlap, walk, memory), fixed, walk, memory)
