"""How the cycle model of ViTCoD cuts a layer into tiles: every shape that fits, its cost, and the best one."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from simulator.cycles import Infeasible, LayerCycles, ceil_div
from simulator.pipeline import end_of, walk
from simulator.tiles import group_sums, lane_cycles, word_sums

if TYPE_CHECKING:
    from simulator.accelerators.vitcod import VitcodSpec

NEAR = 1 / 64  # candidates this close in cycles count as equal; the one with the least compute wins


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


def best_mapping(spec: "VitcodSpec", split: Split, tokens: int, weight_bits: int) -> LayerCycles:
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
        raise Infeasible(smallest_tile_text(spec, split, weight_bits))
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


def tile_widths(n_words: int) -> list[int]:
    """Tile widths to try, in words of 64 columns: every one up to 16, then steps of a half power of two, then the whole."""
    wider = [width << shift for shift in range(20) for width in (24, 32)]
    return sorted({min(width, n_words) for width in [*range(1, 17), *wider]})


def tile_shapes(spec: "VitcodSpec", split: Split, weight_bits: int) -> Iterator[Tiles]:
    """Tile shapes that fit half the weight and index buffers: `tile_widths` by lanes * 2^j rows."""
    rows, n_words = split.counts.shape
    cols = np.minimum(64, split.cols - 64 * np.arange(n_words))
    for tile_words in tile_widths(n_words):
        starts = np.arange(0, n_words, tile_words)
        counts = word_sums(split.counts, tile_words)
        tile_cols, dense_cols = np.add.reduceat(cols, starts), np.add.reduceat(split.dense_cols, starts)
        tile_rows = spec.array.width
        while True:
            tiles = shape_tiles(spec, split, counts, dense_cols, tile_cols, tile_rows, tile_words, weight_bits)
            if tiles is None:
                break
            yield tiles
            if tile_rows >= rows:
                break
            tile_rows *= 2
        if tile_rows == spec.array.width and tiles is None:
            break  # not even one row a lane fits; wider tiles hold more


def shape_tiles(
    spec: "VitcodSpec",
    split: Split,
    counts: np.ndarray,
    dense_cols: np.ndarray,
    cols: np.ndarray,
    tile_rows: int,
    tile_words: int,
    weight_bits: int,
) -> Tiles | None:
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


def smallest_tile_text(spec: "VitcodSpec", split: Split, weight_bits: int) -> str:
    """Why not even the smallest tile fits: the first buffer whose half is too small for it."""
    rows, cols = min(spec.array.width, len(split.counts)), min(64, split.cols)
    kept = group_sums(split.counts, spec.array.width)
    dense = split.dense_cols
    group_rows = np.minimum(spec.array.width, len(split.counts) - np.arange(0, len(split.counts), spec.array.width))
    columns = np.minimum(64, split.cols - 64 * np.arange(len(dense)))
    metadata = metadata_bits(spec.engines.metadata, kept, group_rows, columns, dense, 64)
    needs = {
        "weight_kib": int(_bytes((kept + group_rows[:, None] * dense) * weight_bits).max()),
        "index_kib": int(_bytes(metadata).max()),
        "output_kib": math.ceil(rows * spec.number.accumulator_bits / 8),
        "activation_kib": math.ceil(cols * spec.number.activation_bits / 8),
    }
    for buffer, need in needs.items():
        half = getattr(spec.buffers, buffer) * 512
        if need > half:
            return (
                f"the smallest tile, {rows} outputs x {cols} inputs x 1 token, needs {need:,} B in half of "
                f"buffers.{buffer}, which holds {half:,.0f} B; raise it to {need / 512:.4g} or lower array.width"
            )
    raise AssertionError("a tile that fits every buffer was refused")


def token_tiles(tokens: int) -> list[int]:
    """All tokens at once, or powers of two below."""
    return [tokens, *(1 << i for i in range(tokens.bit_length()) if 1 << i < tokens)]


def is_resident(spec: "VitcodSpec", cols: int, tile_tokens: int, tokens: int) -> bool:
    """Whether the inputs of a token tile stay on chip; the next token tile's need the other half of the buffer."""
    capacity = spec.buffers.activation_kib * (1024 if tile_tokens == tokens else 512)
    return cols * tile_tokens * spec.number.activation_bits / 8 <= capacity


def fits_tokens(spec: "VitcodSpec", split: Split, tiles: Tiles, tile_tokens: int, tokens: int) -> bool:
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

    spec: "VitcodSpec"
    tiles: Tiles
    tokens: int
    tile_tokens: int
    passes: tuple[Pass, ...]

    @classmethod
    def of(cls, spec: "VitcodSpec", split: Split, tiles: Tiles, tile_tokens: int, tokens: int) -> "Schedule":
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

    def walk(self, split: Split) -> LayerCycles:
        compute_cycles = self.compute_cycles
        state = np.zeros(5, dtype=np.int64)
        for p in self.passes:
            walk(p.load.ravel(), p.compute.ravel(), p.store.ravel(), p.times, state)
        weight_passes = ceil_div(self.tokens, self.tile_tokens)
        array = self.spec.array
        return LayerCycles(
            compute_cycles=compute_cycles,
            stall_cycles=end_of(state) - compute_cycles,
            transfer_cycles=self.transfer_cycles,
            ideal_cycles=split.kept * self.tokens / (array.width * array.height),
            weight_bytes=int(self.tiles.weight_bytes.sum()) * weight_passes,
            metadata_bytes=int(self.tiles.metadata_bytes.sum()) * weight_passes,
            activation_bytes=sum(p.times * p.activation_bytes for p in self.passes),
            output_bytes=sum(p.times * p.output_bytes for p in self.passes),
            mapping=f"tile {self.tiles.tile_rows}x{64 * self.tiles.tile_words}x{self.tile_tokens}, "
            f"{int(split.dense_cols.sum())} dense columns on {split.dense_lanes} lanes",
        )


def make_pass(spec: "VitcodSpec", tiles: Tiles, tokens: int, times: int, resident: bool) -> Pass:
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
