"""What tiles of the cycle model of ViTCoD hold and how long they compute, for every tile shape.

None of it depends on bandwidth or buffers, and only bytes on bits: it is kept with the statistics, and shared by
further designs.
"""

from dataclasses import dataclass

import numpy as np

from simulator.accelerators.vitcod.spec import VitcodSpec
from simulator.cycles import ceil_div
from simulator.formats import block_sides, index_bits, scale_bits
from simulator.statistics import Statistics
from simulator.tiling.granules import check_override
from simulator.tiling.tiles import group_sums, running_sums, shape_facts, tile_bytes, tile_cycles
from simulator.work import Work

WORD = 64

# Columns of tiles.shape_facts that Python reads.
READS, SUMS, MOST_HELD, MOST_METADATA, WEIGHTS, METADATA, SCALES = range(5, 12)


@dataclass(frozen=True)
class Split:
    """A layer's work under one threshold: `dense_lanes` of `lanes` lanes take the dense columns, the others the
    rest."""

    counts: np.ndarray  # (rows, n_words) uint8 kept weights of the sparse columns in each run of 64 columns
    dense_cols: np.ndarray  # (n_words,) dense columns in each run of 64
    cols: int
    lanes: int
    dense_lanes: int


@dataclass(frozen=True)
class Storage:
    """What decides how many bytes a tile takes. scale_bits: of a scale and its zero point, 0 where weights have
    none."""

    weight_bits: int
    metadata: str
    group_size: int | None
    scale_bits: int

    @classmethod
    def of(cls, spec: VitcodSpec, work: Work) -> "Storage":
        width = work.width(spec.number.weight_bits)
        quantized = work.weight_bits is not None and work.weight_bits <= spec.number.weight_bits
        return cls(width, spec.engines.metadata, work.group_size, spec.number.scale_bits + width if quantized else 0)


@dataclass(frozen=True)
class Shape:
    """Tiles of tile_rows outputs x 64 * tile_words inputs, edges smaller."""

    tile_rows: int
    tile_words: int
    rows: np.ndarray  # (row tiles,) outputs of each
    cols: np.ndarray  # (column tiles,) inputs of each
    dense_cols: np.ndarray  # (column tiles,) dense ones among them
    kept: np.ndarray  # (row tiles, column tiles) int32 kept weights of sparse columns

    def rounds(self, split: Split) -> np.ndarray:
        """(row tiles,) times the denser engine goes through its columns for a token."""
        return -(-self.rows // max(split.dense_lanes, 1))

    def engines(self) -> np.ndarray:
        """(column tiles,) engines that have columns there."""
        return (self.dense_cols > 0).astype(np.int64) + (self.cols > self.dense_cols)

    def parts(self, storage: Storage) -> np.ndarray:
        """Bytes of weights, metadata and scales of every tile, (3, row tiles, column tiles)."""
        index = index_bits(WORD * self.tile_words) if storage.metadata == "coordinate" else 0
        scales = scale_bits(np.ones(1, dtype=np.int64), self.cols, storage.group_size, 1, 0)[0]
        sides = (self.rows, self.cols, self.dense_cols)
        return tile_bytes(self.kept, *sides, scales, storage.weight_bits, index, storage.scale_bits)


class Shapes:
    """The tile shapes of one split, narrow before wide and low before high, and what designs have asked of them so far.

    What decides which shapes are looked at closer is one table over all of them; arrays over tiles exist for those
    only.
    """

    def __init__(self, split: Split, widths: list[int], heights: list[int]):
        self.split = split
        self.widths, self.heights = widths, heights
        self.sides = np.array([(height * split.lanes, width) for width in widths for height in heights])
        self.n_dense = int(split.dense_cols.sum())
        self._kept = group_sums(split.counts, split.lanes)
        self._shapes: dict[int, Shape] = {}
        self._facts: dict[Storage, np.ndarray] = {}
        self._loaded: dict[tuple[Storage, int], np.ndarray] = {}
        self._cycles: dict[tuple[int, int], np.ndarray] = {}
        self._totals: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.sides)

    def __getitem__(self, i: int) -> Shape:
        if i not in self._shapes:
            split, (tile_rows, tile_words) = self.split, self.sides[i].tolist()
            starts = np.arange(0, len(split.dense_cols), tile_words)
            self._shapes[i] = Shape(
                tile_rows,
                tile_words,
                rows=block_sides(len(split.counts), tile_rows),
                cols=block_sides(split.cols, WORD * tile_words),
                dense_cols=np.add.reduceat(split.dense_cols, starts),
                kept=group_sums(np.add.reduceat(self._kept, starts, axis=1, dtype=np.int32), tile_rows // split.lanes),
            )
        return self._shapes[i]

    def facts(self, storage: Storage) -> np.ndarray:
        """`tiles.shape_facts`, (shapes, 13) int64."""
        if storage not in self._facts:
            split = self.split
            index = [index_bits(WORD * width) if storage.metadata == "coordinate" else 0 for width in self.widths]
            self._facts[storage] = shape_facts(
                *(self._kept, len(split.counts), split.cols, split.dense_cols, split.lanes, split.dense_lanes),
                *(np.array(self.widths), np.array(self.heights), np.array(index)),
                *(storage.weight_bits, storage.scale_bits, storage.group_size or 0),
            )
        return self._facts[storage]

    def totals(self, height: int, wanted: np.ndarray | None = None) -> np.ndarray:
        """Compute cycles of all tiles for a token, (shapes,) int64; computed for those `wanted`, -1 where never asked
        for."""
        totals = self._totals.setdefault(height, np.full(len(self), -1, dtype=np.int64))
        if wanted is None:
            return totals
        missing = np.flatnonzero(wanted & (totals < 0))
        if len(missing):
            split = self.split
            cycles, starts = tile_cycles(
                *(running_sums(split.counts), split.dense_cols, self.sides[missing]),
                *(split.lanes, split.dense_lanes, height),
            )
            for i, start, stop in zip(missing.tolist(), starts[:-1].tolist(), starts[1:].tolist(), strict=True):
                self._cycles[height, i] = cycles[start:stop]
            totals[missing] = np.add.reduceat(cycles, starts[:-1], dtype=np.int64)
        return totals

    def cycles(self, height: int, i: int) -> np.ndarray:
        """Compute cycles a token of every tile of shape i, (row tiles, column tiles) int32, once `totals` has them."""
        return self._cycles[height, i].reshape(self[i].kept.shape)

    def loaded(self, storage: Storage, i: int) -> np.ndarray:
        """Bytes of weights, metadata and scales of every tile of shape i, int32."""
        if (storage, i) not in self._loaded:
            self._loaded[storage, i] = self[i].parts(storage).sum(axis=0).astype(np.int32)
        return self._loaded[storage, i]


def tile_widths(n_words: int) -> list[int]:
    """Tile widths to try, in words of 64 columns: every one up to 16, then steps of a half power of two, then the
    whole."""
    wider = [width << shift for shift in range(20) for width in (24, 32)]
    return sorted({min(width, n_words) for width in [*range(1, 17), *wider]})


def tile_heights(lane_groups: int) -> list[int]:
    """Tile heights to try, in rows a lane: powers of two until all rows are in one tile."""
    return [1 << shift for shift in range((lane_groups - 1).bit_length() + 1)]


def shapes_of(spec: VitcodSpec, statistics: Statistics, work: Work) -> list[Shapes]:
    """`tile_widths` by lanes * `tile_heights`, or what the overrides leave of them, for every split; kept with the
    statistics.

    Raises UserError for an override that is no multiple of the lanes or of 64 columns.
    """
    tile_rows, tile_cols, lanes = spec.mapping.tile_rows, spec.mapping.tile_cols, spec.array.width
    key = ("shapes", tile_rows, tile_cols)
    if key not in statistics.memo:
        n_words = ceil_div(work.cols, WORD)
        groups = ceil_div(work.rows, lanes)
        widths = [min(check_override("tile_cols", tile_cols, WORD), n_words)] if tile_cols else tile_widths(n_words)
        heights = [min(check_override("tile_rows", tile_rows, lanes), groups)] if tile_rows else tile_heights(groups)
        columns = zip(statistics["counts"], statistics["dense_cols"], statistics["dense_lanes"], strict=True)
        splits = [Split(counts, dense_cols, work.cols, lanes, int(n)) for counts, dense_cols, n in columns]
        statistics.memo[key] = [Shapes(split, widths, heights) for split in splits]
    return statistics.memo[key]
