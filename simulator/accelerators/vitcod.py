"""The ViTCoD machine at level "cycle": lanes, metadata, double-buffered tiles and DRAM, for any number of tokens.

Source: ViTCoD (HPCA 2023) for the two engines, clock, buffers and bandwidth; the array size is BESA's port of it.
The linear y = x W^T runs tile by tile: a tile is tile_rows outputs x tile_cols inputs x tile_tokens tokens, in the order
tokens (outer), outputs, inputs (inner, partial sums stay on chip).

Compute, a token of a tile. The array's `width` lanes are split for a whole layer:
  * denser engine, w lanes: the tile's g dense columns without metadata, zeros included:
    ceil(tile_rows / w) * ceil(g / height) cycles;
  * sparser engine, width - w lanes: row i of the tile runs on lane i mod (width - w), `height` kept weights a cycle into
    one adder tree, so a row with c kept weights takes ceil(c / height); the slowest lane counts.
  The engines run side by side, the slower one ends the tile, and w is in proportion to their MACs.

Memory: bytes of kept weights, metadata, inputs and outputs over one DRAM port (`pipeline.walk`).
The compiler (`best_mapping`) picks threshold and tile sizes that fit the buffers and take the fewest cycles; among those within
NEAR = 1/64 of the fewest, the one that computes least (where memory decides, many tie).

Deviations and approximations: ViTCoD published attention, not linear layers; its third 53 KiB buffer idles here.
Metadata is a bitmap over the sparse columns by default ("coordinate" is the publication's kind). Adder-tree latency, drain
once a layer, and DRAM row effects are left out (`dram.efficiency` stands for the latter). A pruned weight moved from the
denser to the sparser side can cost cycles, so fewer weights are not guaranteed to be faster. More bandwidth or larger
buffers never cost more than NEAR: every tiling they allow gets no slower, only the choice among near-equals may change.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from simulator.accelerators.vitcod_tiling import Split, best_mapping
from simulator.cycles import Infeasible, LayerCycles, Outcome, ceil_div
from simulator.machine import Array, Clock, Dram, Fraction, Number, PositiveFloat
from workloads import bits
from workloads.mask import PackedMask

NOTES = (
    "ViTCoD published attention, not linear layers: the mapping of a linear layer onto its two engines is ours.",
    "Quantized weights take their own bits on both sides; scales and zero points of their groups are not charged.",
    "Unless set otherwise, weights and activations take 8 bits on both the dense and the sparse side; metadata is one bit per position of the "
    "sparse columns (bitmap), or a column number per kept weight (engines.metadata = coordinate, the publication's kind).",
    "Tile widths are multiples of 64 inputs, tile heights lanes times powers of two; the best of these is taken.",
    "Unless set otherwise, DRAM delivers its full bandwidth (dram.efficiency = 1), always without row or bank effects; adder-tree latency and pipeline "
    "drain are left out.",
)


@dataclass(frozen=True)
class Buffers:
    activation_kib: PositiveFloat
    weight_kib: PositiveFloat
    index_kib: PositiveFloat
    output_kib: PositiveFloat


@dataclass(frozen=True)
class Engines:
    dense_thresholds: Annotated[tuple[Fraction, ...], Field(min_length=1)]
    metadata: Literal["bitmap", "coordinate"]


@dataclass(frozen=True)
class VitcodSpec:
    array: Array
    clock: Clock
    buffers: Buffers
    dram: Dram
    number: Number
    engines: Engines

    @property
    def bytes_per_cycle(self) -> float:
        return self.dram.bytes_per_cycle(self.clock)


def simulate(spec: VitcodSpec, mask: PackedMask, tokens: int, weight_bits: int | None) -> Outcome:
    """Cycles of one masked layer. Weights take min(weight_bits, number.weight_bits) bits on both sides.

    Raises Infeasible when under no threshold the smallest tile fits the buffers.
    """
    width = min(weight_bits or spec.number.weight_bits, spec.number.weight_bits)
    options: list[LayerCycles] = []
    refusals: list[Infeasible] = []
    for split in splits(spec, mask):
        try:
            options.append(best_mapping(spec, split, tokens, width))
        except Infeasible as refusal:
            refusals.append(refusal)
    if not options:
        raise refusals[0]
    return Outcome(
        sparse=min(options, key=lambda option: option.cycles),
        dense=dense_layer(spec, mask.rows, mask.cols, tokens, width),
        weight_bits=width,
    )


@lru_cache(maxsize=256)
def dense_layer(spec: VitcodSpec, rows: int, cols: int, tokens: int, weight_bits: int) -> LayerCycles:
    """The unpruned layer: every column dense, all lanes in the denser engine, no metadata."""
    n_words = ceil_div(cols, 64)
    counts = np.zeros((rows, n_words), dtype=np.uint8)
    dense_cols = np.minimum(64, cols - 64 * np.arange(n_words))
    return best_mapping(spec, Split(counts, dense_cols, cols, spec.array.width, rows * cols), tokens, weight_bits)


def splits(spec: VitcodSpec, mask: PackedMask) -> Iterator[Split]:
    """The distinct divisions of the columns that the thresholds give, lanes in proportion to each engine's MACs."""
    column_counts = mask.column_counts()
    kept = int(column_counts.sum())
    seen = set()
    for threshold in spec.engines.dense_thresholds:
        dense = column_counts > threshold * mask.rows
        if spec.array.width == 1 and not dense.all():
            dense[:] = False  # a single lane cannot be two engines
        n_dense = int(dense.sum())
        if n_dense in seen:
            continue
        seen.add(n_dense)
        sparse_work = kept - int(column_counts[dense].sum())
        dense_work = n_dense * mask.rows
        lanes = round(spec.array.width * dense_work / (dense_work + sparse_work)) if n_dense else 0
        if sparse_work and n_dense:
            lanes = min(max(lanes, 1), spec.array.width - 1)
        chosen = bits.pack(~dense[None, :])[0]
        dense_cols = np.add.reduceat(dense, np.arange(0, mask.cols, 64), dtype=np.int64)
        yield Split(bits.masked_word_counts(mask.words, chosen), dense_cols, mask.cols, lanes, kept)
