"""Sparse attention on the ViTCoD machine at level "cycle": every head's mask, lanes, decoder, buffers and DRAM.

Source: ViTCoD (HPCA 2023) for the two engines, the encoder, 64 lanes x 8 MACs, buffers, clock and bandwidth; its
program counts 64 x 64 PEs instead (`--set array.height=64`). Masks (heads, T, T); scores S = Q K^T on kept positions
(SDDMM), outputs S V (SpMM).

A head's keys with more than `global_above` kept positions (a share of T, rounded up, or a number) are global. The
`width` lanes are split for each head: w for the denser engine, in proportion to positions, rounded, at least one for
each engine that has work. Tiles are `tile_q` queries x `tile_k` keys in token order of `group` heads, one head after
the other (`mapping` names them). Per tile and head, the engines side by side, the slower one counts; features come in f
= ceil(d / height) chunks of a lane's width:
  * SDDMM, a position takes one lane f cycles (an adder tree sums a chunk a cycle). Denser engine: the tile's
    positions at global keys are dealt out evenly, ceil(queries * keys / w) f, pruned ones computed and thrown away.
    Sparser engine: K-stationary, key j of the tile belongs to lane j mod (width - w); the lane with the most kept
    positions counts.
  * SpMM, output-stationary: a lane owns chunks of outputs, one cycle a position each (a MAC sums up one feature). A
    query's f chunks go to successive lanes. Denser engine: ceil(queries * f / w) cycles a global key; sparser: kept
    positions of the fullest lane.
Decoder: the encoder leaves c = round(heads * encoder_ratio) heads of Q and K. Every MAC recovers one value from c in
c cycles, so n tokens take ceil(n heads d / (width height)) * c, each time they are loaded. With an encoder all heads
come together; without one, the mapper chooses how many heads are loaded at a time. Softmax: the scores of a query
tile pass at `softmax_per_cycle` between SDDMM and SpMM.

Loop orders of the scores: "queries" outer (K again for every query tile) or "keys" outer (Q again for every key tile,
all scores wait on chip); SpMM always has queries outer. What fits its buffer whole is loaded once. Tiles pass a
double-buffered recurrence over one DRAM port (`engine.walk`). The mapper tries every order, head group and tile size
(T and the powers of two from SMALLEST) that fits and takes the best by `search`'s rule, by bytes, as energy is not
counted here; more bandwidth or buffer costs at most 1/64.

Metadata, per tile and head: the sparser engine's positions as "coordinate" (key number per kept position, a count per
query) or "bitmap" (one bit a position); one bit a position of global keys in which something is pruned, so that it is
thrown away; one bit a key where both kinds mix. A dense mask has none.

Approximations: softmax is a rate without latency and its two passes over a row are not told apart; empty tiles are
loaded like others; keys are not reordered across tiles, so a tile without global keys leaves the denser engine idle;
adder trees, drain between tiles and DRAM rows are left out; the encoder itself belongs to the projections before. Not
guaranteed: that pruning more is faster, as a key that falls below `global_above` changes engines.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np

from simulator.accelerators.vitcod.attention.mapper import AttentionCycles, best_schedule
from simulator.accelerators.vitcod.attention.positions import Positions
from simulator.accelerators.vitcod.attention.spec import VitcodAttentionSpec

NOTES = (
    "Softmax is a rate (engines.softmax_per_cycle, our assumption); latency and passes over a row are left out.",
    "Scores take number.score_bits on chip; 8 bits is the publication's width of everything.",
    "Unless set otherwise, DRAM delivers its full bandwidth (dram.efficiency = 1), without row or bank effects.",
    "Energy is not counted: the publication gives neither the engines' registers nor the buffers' widths.",
    "imbalance_cycles are all compute cycles beyond the ideal, so decoder and softmax are among them; "
    "engine_imbalance_cycles are without.",
    "Global keys have more than attention.global_above kept positions: unless set otherwise 50 of 197 tokens, the "
    "publication's count, as a share of however many there are.",
)


def simulate(spec: VitcodAttentionSpec, kept: np.ndarray) -> AttentionCycles:
    """Cycles of one layer, masks (heads, T, T) bool. Raises Infeasible where not even the smallest tile fits."""
    return best_schedule(spec, Positions.of(kept, spec.attention.kept_above(kept.shape[-1]), spec.array.width))


@lru_cache(maxsize=64)
def dense_layer(spec: VitcodAttentionSpec, heads: int, tokens: int) -> AttentionCycles:
    """Nothing pruned: every key global, all lanes in the denser engine, no metadata. Raises as `simulate`."""
    whole = Positions.of(np.ones((heads, tokens, tokens), dtype=bool), 0, spec.array.width)
    return replace(best_schedule(spec, whole), stream=None)  # many are kept, none is traced
