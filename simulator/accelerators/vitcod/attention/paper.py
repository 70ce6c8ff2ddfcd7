"""ViTCoD's published attention simulator (HPCA 2023; GATECH-EIC/ViTCoD, Hardware/Simulator), quirks included.

Level "paper": per layer, from the mask of head 0 (T x T; rows queries, columns keys), H heads of d features, W PE
columns:
  1. keys with more than `global_above` kept positions (the log's 50 of 197, kept as a share of T) are global, g of
  them; the label walk moves them to the front
     and n_s kept positions remain right of them;
  2. loading n values costs t(n) = ceil(8 n f / bandwidth) cycles, item by item; a token of Q or K is e = H * ratio *
     d values (what the encoder leaves), its decoding u = ceil(e / int(W W / H)) cycles, a token of V is H * d values;
     denser engine: g t(e), and where g > 0 also T t(e) for Q and two loads of decoder weights; decoding likewise;
     sparser engine: (T - g) t(e) and one load of decoder weights; decoding (T - g) u;
     only where g = 0, Q comes with the sparser engine: T tokens weighted by n_s / T, one more load of decoder
     weights;
  3. the denser engine gets w = int(W * share) columns, share = g T / (n_s + g T), the sparser engine W - w;
  4. SDDMM: g ceil(T / w) ceil(d H / W) and ceil(n_s / (W - w)) ceil(d H / W), the slower counts;
     SpMM: ceil(T d g / int(w W / H)) and ceil(n_s d / int((W - w) W / H)), the slower counts.
A model: max(sum of preloads, sum of decoding + SDDMM + SpMM). A layer's own row has the same maximum for that layer, so
the layers' cycles sum to no less than the total.

Quirks kept: one head stands for all; Q is charged once although both engines need it; transfers are rounded up token
by token and bandwidth is in GiB; no output, metadata, softmax, lanes or buffers. Deviations: n_s / T is summed
exactly where the program adds it up in floating point; an engine without work costs nothing where the program divides
by zero; global keys that leave the denser engine no PE column make the layer infeasible for the same reason.
"""

import math
from dataclasses import dataclass

import numpy as np

from simulator.accelerators.vitcod.attention.masks import global_keys, right_of_global
from simulator.cycles import Infeasible, ceil_div
from simulator.machine.parts import Clock, Fraction, PositiveFloat, PositiveInt, Side
from workloads.refusals import Refusal

NOTES = (
    "A published formula, quirks included: the mask of head 0 stands for all heads, on 64 x 64 PEs where the paper's "
    "hardware has 512 MACs.",
    "Loading overlaps perfectly with all else over the whole model; no outputs, metadata, softmax, lanes or buffers. "
    "Layers that are summed one by one therefore take no less than the publication's total.",
)


@dataclass(frozen=True)
class PaperArray:
    width: Side


@dataclass(frozen=True)
class PaperDram:
    """GiB/s, as the program has it."""

    bandwidth_gibps: PositiveFloat


@dataclass(frozen=True)
class Attention:
    """head_features: d; encoder_ratio: rho; global_above: what a global key's column of kept positions exceeds, below 1
    as a share of the T tokens, else as their number."""

    head_features: PositiveInt
    global_above: PositiveFloat
    encoder_ratio: Fraction

    def kept_above(self, tokens: int) -> int:
        """A key is global with more kept positions than this; a share of the tokens is rounded up."""
        if self.global_above >= 1:
            return math.floor(self.global_above)
        return math.ceil(self.global_above * tokens * (1 - 1e-12))  # 50 / 197 of 197 tokens are 50


@dataclass(frozen=True)
class PaperNumber:
    bits: PositiveInt


@dataclass(frozen=True)
class PaperSpec:
    array: PaperArray
    clock: Clock
    dram: PaperDram
    attention: Attention
    number: PaperNumber

    def transfer_cycles(self, values: float, share: float = 1.0) -> int:
        """t(n): `values` numbers over a `share` of the bandwidth, rounded up."""
        bits_per_s = self.dram.bandwidth_gibps * 2**30 * 8 * share
        return math.ceil(values * self.number.bits / bits_per_s * self.clock.mhz * 1e6)


@dataclass(frozen=True)
class PaperLayer:
    """The lines of the log for one layer, in cycles."""

    global_keys: int
    dense_preload: int
    dense_decoder: int
    sparse_preload: int
    sparse_decoder: int
    dense_sddmm: int
    sparse_sddmm: int
    dense_value: int
    dense_spmm: int
    sparse_value: int
    sparse_spmm: int

    @property
    def preload(self) -> int:
        return self.dense_preload + self.sparse_preload + self.dense_value + self.sparse_value

    @property
    def decoder(self) -> int:
        return self.dense_decoder + self.sparse_decoder

    @property
    def sddmm(self) -> int:
        return max(self.dense_sddmm, self.sparse_sddmm)

    @property
    def spmm(self) -> int:
        return max(self.dense_spmm, self.sparse_spmm)

    @property
    def compute(self) -> int:
        return self.decoder + self.sddmm + self.spmm

    @property
    def cycles(self) -> int:
        return max(self.preload, self.compute)


def simulate(spec: PaperSpec, kept: np.ndarray) -> PaperLayer:
    """The log lines of one layer, masks (heads, T, T) bool. Raises Infeasible where the formula divides by zero."""
    heads, tokens, _ = kept.shape
    dense = global_keys(kept[0], spec.attention.kept_above(tokens))
    return formula(spec, heads, tokens, len(dense), right_of_global(kept[0], dense))


def dense_layer(spec: PaperSpec, heads: int, tokens: int) -> PaperLayer:
    """Nothing pruned: every key global, whatever `global_above` says."""
    return formula(spec, heads, tokens, tokens, 0)


def model_cycles(layers: list[PaperLayer]) -> int:
    """The last line of the log: loading overlaps with all else over the whole model."""
    return max(sum(layer.preload for layer in layers), sum(layer.compute for layer in layers))


def formula(spec: PaperSpec, heads: int, tokens: int, g: int, n_sparse: int) -> PaperLayer:
    """Cycles of g global keys and n_sparse kept positions right of them. Raises Infeasible as `simulate`."""
    width, features = spec.array.width, spec.attention.head_features
    compressed = heads * spec.attention.encoder_ratio
    token = spec.transfer_cycles(compressed * features)
    value = spec.transfer_cycles(heads * features)
    decoder_weights = spec.transfer_cycles(compressed, 1 / heads)
    decode = _over(compressed * features, int(width * width / heads), "decoder", width, heads)
    lonely = g == 0  # no global key: Q comes with the sparser engine
    dense_width = int(width * (g * tokens / (n_sparse + g * tokens))) if g else 0
    sparse_width = width - dense_width
    steps = math.ceil(features / (width / heads))
    return PaperLayer(
        global_keys=g,
        dense_preload=0 if lonely else (g + tokens) * token + 2 * decoder_weights,
        dense_decoder=0 if lonely else (g + tokens) * decode,
        sparse_preload=(tokens - g) * token
        + (decoder_weights if tokens > g else 0)
        + (n_sparse * token + decoder_weights if lonely else 0),
        sparse_decoder=(tokens - g) * decode + (n_sparse * decode if lonely else 0),
        dense_sddmm=g * _over(tokens if g else 0, dense_width, "denser engine", width, heads) * steps,
        sparse_sddmm=_over(n_sparse, sparse_width, "sparser engine", width, heads) * steps,
        dense_value=g * value,
        dense_spmm=_over(tokens * features * g, int(dense_width * width / heads), "denser engine", width, heads),
        sparse_value=(tokens - g) * value,
        sparse_spmm=_over(n_sparse * features, int(sparse_width * width / heads), "sparser engine", width, heads),
    )


def _over(work: float, units: int, part: str, width: int, heads: int) -> int:
    """Cycles of `work` on so many units; an idle part costs nothing."""
    if not work:
        return 0
    if not units:
        raise Infeasible(
            Refusal(
                f"the {width} columns x {width} PEs, as the published formula divides them for {heads} heads",
                need=1,
                bound=0,
                unit="PE",
                way_out="raise array.width",
                where=f"the {part}",
            )
        )
    return math.ceil(work / units) if isinstance(work, float) else ceil_div(work, units)
