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

Memory: bytes of kept weights, metadata, inputs and outputs over one DRAM port (`pipeline.double_buffered`).
The compiler (`best_mapping`) picks threshold and tile sizes that fit the buffers and take the fewest cycles.

Deviations and approximations: ViTCoD published attention, not linear layers; its third 53 KiB buffer idles here.
Metadata is a bitmap over the sparse columns by default ("coordinate" is the publication's kind). Adder-tree latency, drain
once a layer, and DRAM row effects are left out (`dram.efficiency` stands for the latter). A pruned weight moved from the
denser to the sparser side can cost cycles, so fewer weights are not guaranteed to be faster. More bandwidth or larger
buffers never cost more than NEAR: every tiling they allow gets no slower, only the choice among near-equals may change.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from simulator.cycles import LayerCycles, Outcome, ceil_div
from simulator.pipeline import double_buffered
from simulator.tiles import group_sums, lane_cycles, pair_sums
from workloads import bits
from workloads.errors import UserError
from workloads.mask import PackedMask

NEAR = 1 / 256  # candidates this close in cycles count as equal; the one with the least compute wins
NOTES = (
    "ViTCoD published attention, not linear layers: the mapping of a linear layer onto its two engines is ours.",
    "Weights and activations take 8 bits on both the dense and the sparse side; a kept weight costs one metadata bit per "
    "position of the sparse columns (bitmap).",
    "DRAM delivers its full bandwidth (dram.efficiency = 1) without row or bank effects; adder-tree latency and pipeline "
    "drain are left out.",
)
PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True)
class Array:
    width: PositiveInt
    height: PositiveInt


@dataclass(frozen=True)
class Clock:
    mhz: PositiveFloat


@dataclass(frozen=True)
class Buffers:
    activation_kib: PositiveFloat
    weight_kib: PositiveFloat
    index_kib: PositiveFloat
    output_kib: PositiveFloat


@dataclass(frozen=True)
class Dram:
    bandwidth_gbps: PositiveFloat
    efficiency: Fraction


@dataclass(frozen=True)
class Number:
    weight_bits: PositiveInt
    activation_bits: PositiveInt
    accumulator_bits: PositiveInt


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
        return self.dram.bandwidth_gbps * 1e3 * self.dram.efficiency / self.clock.mhz


@dataclass(frozen=True)
class Split:
    """A layer's work under one threshold: w = `dense_lanes` lanes take the dense columns, the others the rest."""

    counts: np.ndarray  # (rows, n_words) kept weights of the sparse columns in each run of 64 columns
    dense_cols: np.ndarray  # (n_words,) dense columns in each run of 64
    cols: int
    dense_lanes: int
    kept: int  # kept weights of the whole layer


@dataclass(frozen=True)
class Tiles:
    """One tile shape: what each tile, (row groups, column tiles), costs. Columns of a tile: 64 * tile_words."""

    tile_rows: int
    tile_words: int
    cycles: np.ndarray  # compute a token
    weight_bytes: np.ndarray
    metadata_bytes: np.ndarray
    cols: np.ndarray  # (column tiles,) inputs of each
    rows: np.ndarray  # (row groups,) outputs of each


def simulate(spec: VitcodSpec, mask: PackedMask, tokens: int, weight_bits: int | None) -> Outcome:
    """Cycles of one masked layer. Weights take min(weight_bits, number.weight_bits) bits on both sides.

    Raises UserError when not even the smallest tile fits the buffers.
    """
    width = min(weight_bits or spec.number.weight_bits, spec.number.weight_bits)
    options = [best_mapping(spec, split, tokens, width) for split in splits(spec, mask)]
    return Outcome(
        sparse=min(options, key=lambda option: option.cycles),
        dense=dense_layer(spec, mask.rows, mask.cols, tokens, width),
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
        n_dense = int(dense.sum())
        if n_dense in seen:
            continue
        seen.add(n_dense)
        sparse_work = kept - int(column_counts[dense].sum())
        dense_work = n_dense * mask.rows
        lanes = round(spec.array.width * dense_work / (dense_work + sparse_work)) if n_dense else 0
        if sparse_work and n_dense:
            lanes = min(max(lanes, 1), spec.array.width - 1)
            if lanes == 0:
                continue  # a single lane cannot be two engines
        chosen = bits.pack(~dense[None, :])[0]
        dense_cols = np.add.reduceat(dense, np.arange(0, mask.cols, 64), dtype=np.int64)
        yield Split(bits.masked_word_counts(mask.words, chosen), dense_cols, mask.cols, lanes, kept)


def best_mapping(spec: VitcodSpec, split: Split, tokens: int, weight_bits: int) -> LayerCycles:
    """The tile sizes with the fewest cycles; among those within NEAR of the fewest, the ones that compute least.

    Candidates are walked through tile by tile in the order of a lower bound, max(compute, transfer), so few are.
    """
    schedules = [
        Schedule.of(spec, split, tiles, tile_tokens, tokens)
        for tiles in tile_shapes(spec, split, weight_bits)
        for tile_tokens in token_tiles(tokens)
        if fits_tokens(spec, split, tiles, tile_tokens, tokens)
    ]
    if not schedules:
        raise UserError(
            f"a tile of {min(spec.array.width, len(split.counts))} outputs x 64 inputs x 1 token does not fit 'vitcod': raise "
            "buffers.weight_kib, index_kib, activation_kib or output_kib, or lower array.width"
        )
    schedules.sort(key=lambda schedule: schedule.lower_bound)
    walked: list[LayerCycles] = []
    fewest = math.inf
    for schedule in schedules:
        if schedule.lower_bound > fewest * (1 + NEAR):
            break
        walked.append(schedule.walk(split))
        fewest = min(fewest, walked[-1].cycles)
    near = [cycles for cycles in walked if cycles.cycles <= fewest * (1 + NEAR)]
    return min(near, key=lambda cycles: (cycles.compute_cycles, cycles.cycles))


def tile_shapes(spec: VitcodSpec, split: Split, weight_bits: int) -> Iterator[Tiles]:
    """Tile shapes that fit half the weight and index buffers: 64 * 2^i columns by lanes * 2^j rows."""
    rows, n_words = split.counts.shape
    counts, dense_cols, tile_words = split.counts, split.dense_cols, 1
    cols = np.minimum(64, split.cols - 64 * np.arange(n_words))
    while True:
        tile_rows = spec.array.width
        while True:
            tiles = shape_tiles(spec, split, counts, dense_cols, cols, tile_rows, tile_words, weight_bits)
            if tiles is None:
                break
            yield tiles
            if tile_rows >= rows:
                break
            tile_rows *= 2
        if tile_words >= n_words:
            break
        pairs = np.arange(0, len(cols), 2)
        counts, dense_cols, cols = pair_sums(counts), np.add.reduceat(dense_cols, pairs), np.add.reduceat(cols, pairs)
        tile_words *= 2


def shape_tiles(spec, split, counts, dense_cols, cols, tile_rows, tile_words, weight_bits) -> Tiles | None:
    """Costs of every tile of one shape, or None where the largest tile does not fit. `counts` is (rows, column tiles)
    kept weights of sparse columns; `dense_cols` and `cols` are (column tiles,)."""
    width, height = spec.array.width, spec.array.height
    n_rows = len(counts)
    group_rows = np.minimum(tile_rows, n_rows - np.arange(0, n_rows, tile_rows))
    kept = group_sums(counts, tile_rows)
    weight_bytes = _bytes((kept + group_rows[:, None] * dense_cols) * weight_bits)
    metadata_bytes = _bytes(metadata_bits(spec.engines.metadata, kept, group_rows, cols, dense_cols, 64 * tile_words))
    if weight_bytes.max() > spec.buffers.weight_kib * 512 or metadata_bytes.max() > spec.buffers.index_kib * 512:
        return None
    sparse = lane_cycles(counts, tile_rows, width - split.dense_lanes, height)
    if split.dense_lanes:
        dense = -(-group_rows[:, None] // split.dense_lanes) * -(-dense_cols // height)
        cycles = np.maximum(sparse, dense)
    else:
        cycles = sparse
    return Tiles(tile_rows, tile_words, cycles, weight_bytes, metadata_bytes, cols, group_rows)


def metadata_bits(
    kind: str, kept: np.ndarray, rows: np.ndarray, cols: np.ndarray, dense_cols: np.ndarray, tile_cols: int
):
    """Metadata of every tile (row groups, column tiles), in bits.

    bitmap: one bit per position of the sparse columns. coordinate: a column number per kept weight and a count per row.
    Where dense and sparse columns mix, one bit a column tells them apart.
    """
    sparse_cols = cols - dense_cols
    mixed = np.where((dense_cols > 0) & (sparse_cols > 0), cols, 0)
    if kind == "bitmap":
        return rows[:, None] * sparse_cols + mixed
    index = max(1, (tile_cols - 1).bit_length())
    return kept * index + np.where(sparse_cols > 0, rows[:, None] * (index + 1), 0) + mixed


def token_tiles(tokens: int) -> list[int]:
    """All tokens at once, or powers of two below."""
    return [tokens, *(1 << i for i in range(tokens.bit_length()) if 1 << i < tokens)]


def is_resident(spec: VitcodSpec, cols: int, tile_tokens: int, tokens: int) -> bool:
    """Whether the inputs of a token tile stay on chip; the next token tile's need the other half of the buffer."""
    capacity = spec.buffers.activation_kib * (1024 if tile_tokens == tokens else 512)
    return cols * tile_tokens * spec.number.activation_bits / 8 <= capacity


def fits_tokens(spec: VitcodSpec, split: Split, tiles: Tiles, tile_tokens: int, tokens: int) -> bool:
    """Whether partial sums and inputs of a token tile fit half their buffers (or the inputs are resident)."""
    sums = int(tiles.rows.max()) * tile_tokens * spec.number.accumulator_bits / 8
    inputs = int(tiles.cols.max()) * tile_tokens * spec.number.activation_bits / 8
    streamed = inputs <= spec.buffers.activation_kib * 512
    return sums <= spec.buffers.output_kib * 512 and (streamed or is_resident(spec, split.cols, tile_tokens, tokens))


@dataclass(frozen=True)
class Pass:
    """One walk over all weights with `tokens` tokens, done `times` times; cycles per tile, (row groups, column tiles)."""

    times: int
    load: np.ndarray
    compute: np.ndarray
    store: np.ndarray
    activation_bytes: int
    output_bytes: int


@dataclass(frozen=True)
class Schedule:
    """A layer under one tiling: the token tiles in order, a shorter last one as a pass of its own."""

    spec: VitcodSpec
    tiles: Tiles
    tokens: int
    tile_tokens: int
    passes: tuple[Pass, ...]

    @classmethod
    def of(cls, spec: VitcodSpec, split: Split, tiles: Tiles, tile_tokens: int, tokens: int) -> "Schedule":
        resident = is_resident(spec, split.cols, tile_tokens, tokens)
        full, rest = divmod(tokens, tile_tokens)
        sizes = [(tile_tokens, full)] + ([(rest, 1)] if rest else [])
        passes = tuple(make_pass(spec, tiles, n, times, resident) for n, times in sizes)
        return cls(spec, tiles, tokens, tile_tokens, passes)

    @property
    def compute_cycles(self) -> int:
        return sum(p.times * int(p.compute.sum()) for p in self.passes)

    @property
    def transfer_cycles(self) -> int:
        return sum(p.times * int(p.load.sum() + p.store.sum()) for p in self.passes)

    @cached_property
    def lower_bound(self) -> int:
        return max(self.compute_cycles, self.transfer_cycles)

    def timeline(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Load, compute and store cycles of every tile in execution order, each (tiles,)."""
        load, compute, store = (
            np.concatenate([np.tile(getattr(p, part).ravel(), p.times) for p in self.passes])
            for part in ("load", "compute", "store")
        )
        return load, compute, store

    def walk(self, split: Split) -> LayerCycles:
        compute_cycles = self.compute_cycles
        weight_passes = ceil_div(self.tokens, self.tile_tokens)
        array = self.spec.array
        return LayerCycles(
            compute_cycles=compute_cycles,
            stall_cycles=int(double_buffered(*self.timeline())) - compute_cycles,
            transfer_cycles=self.transfer_cycles,
            ideal_cycles=split.kept * self.tokens / (array.width * array.height),
            weight_bytes=int(self.tiles.weight_bytes.sum()) * weight_passes,
            metadata_bytes=int(self.tiles.metadata_bytes.sum()) * weight_passes,
            activation_bytes=sum(p.times * p.activation_bytes for p in self.passes),
            output_bytes=sum(p.times * p.output_bytes for p in self.passes),
            mapping=f"tile {self.tiles.tile_rows}x{64 * self.tiles.tile_words}x{self.tile_tokens}, "
            f"{int(split.dense_cols.sum())} dense columns on {split.dense_lanes} lanes",
        )


def make_pass(spec: VitcodSpec, tiles: Tiles, tokens: int, times: int, resident: bool) -> Pass:
    """Resident inputs are loaded with the first row group only."""
    inputs = np.zeros(tiles.cycles.shape, dtype=np.int64)
    inputs[: 1 if resident else None] = _bytes(tiles.cols * tokens * spec.number.activation_bits)
    outputs = np.zeros(tiles.cycles.shape, dtype=np.int64)
    outputs[:, -1] = _bytes(tiles.rows * tokens * spec.number.activation_bits)
    loaded = tiles.weight_bytes + tiles.metadata_bytes + inputs
    return Pass(
        times=times,
        load=np.ceil(loaded / spec.bytes_per_cycle).astype(np.int64),
        compute=tiles.cycles * tokens,
        store=np.ceil(outputs / spec.bytes_per_cycle).astype(np.int64),
        activation_bytes=int(inputs.sum()),
        output_bytes=int(outputs.sum()),
    )


def _bytes(number_of_bits: np.ndarray) -> np.ndarray:
    return -(-number_of_bits // 8)
