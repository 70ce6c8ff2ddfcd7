"""What a layer's masks ask of the two engines: gathered once, then evaluated for any tile size."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit

from simulator.cycles import ceil_div

SMALLEST = 16  # tokens of the smallest tile; every tile is a multiple of it, or all tokens


@dataclass(frozen=True)
class Positions:
    """One layer's masks, divided. H heads, T tokens; the sparser engine takes what is kept outside global keys."""

    sparse: np.ndarray  # (H, T, T) bool: kept positions of the sparser engine
    is_global: np.ndarray  # (H, T) bool
    holes: np.ndarray  # (H, T) bool: global keys in which something is pruned
    dense_lanes: np.ndarray  # (H,) int64, w of each head
    width: int
    kept: int

    @classmethod
    def of(cls, kept: np.ndarray, above: int, width: int) -> "Positions":
        """Masks (H, T, T), True = kept; a key with more than `above` kept positions is global. One lane alone is never
        split: a head whose work is of both kinds is then all sparse."""
        counts = kept.sum(axis=1)  # (H, T) kept positions of every key
        tokens = kept.shape[1]
        is_global = counts > above
        if width == 1:
            is_global &= is_global.all(axis=1, keepdims=True)
        dense_work = is_global.sum(axis=1) * tokens
        sparse_work = np.where(is_global, 0, counts).sum(axis=1)
        lanes = np.rint(width * dense_work / np.maximum(dense_work + sparse_work, 1)).astype(np.int64)
        both = (dense_work > 0) & (sparse_work > 0)
        lanes = np.where(both, np.clip(lanes, 1, max(width - 1, 1)), np.where(dense_work > 0, width, 0))
        holes = is_global & (counts < tokens)
        return cls(kept & ~is_global[:, None, :], is_global, holes, lanes, width, int(counts.sum()))

    @property
    def heads(self) -> int:
        return int(self.sparse.shape[0])

    @property
    def tokens(self) -> int:
        return int(self.sparse.shape[1])

    @cached_property
    def _by_query(self) -> np.ndarray:
        """Kept positions of the sparser engine for every query and run of SMALLEST keys, (H, T, runs)."""
        return np.add.reduceat(self.sparse, np.arange(0, self.tokens, SMALLEST), axis=2, dtype=np.uint8)

    @cached_property
    def _by_key(self) -> np.ndarray:
        """The same for every key and run of queries, (H, T, runs)."""
        runs = np.add.reduceat(self.sparse, np.arange(0, self.tokens, SMALLEST), axis=1, dtype=np.uint8)
        return np.ascontiguousarray(runs.transpose(0, 2, 1))

    def sparse_counts(self, tile_k: int) -> np.ndarray:
        """Kept positions of the sparser engine, (H, T, key tiles) int32."""
        return self._wider(self._by_query, tile_k)

    def _wider(self, runs: np.ndarray, tile: int) -> np.ndarray:
        """(H, T, runs) summed to tiles of a multiple of SMALLEST, or of all tokens."""
        if tile % SMALLEST and tile < self.tokens:
            raise ValueError(f"a tile of {tile} tokens is no multiple of {SMALLEST}")
        starts = np.arange(0, runs.shape[2], ceil_div(tile, SMALLEST))
        return np.add.reduceat(runs, starts, axis=2, dtype=np.int32)

    def keys(self, which: np.ndarray, tile_k: int) -> np.ndarray:
        """True entries of a (H, T) array in every key tile, (H, key tiles) int64."""
        return np.add.reduceat(which, np.arange(0, self.tokens, tile_k), axis=1, dtype=np.int64)

    def sddmm_cycles(self, tile_q: int, tile_k: int, chunks: int) -> np.ndarray:
        """(H, query tiles, key tiles); a position takes `chunks` cycles of one lane.

        Denser engine: positions dealt out evenly. Sparser: key j of a tile belongs to lane j mod its lanes.
        """
        positions = tile_sizes(self.tokens, tile_q)[:, None] * self.keys(self.is_global, tile_k)[:, None, :]
        dense = -(-positions // np.maximum(self.dense_lanes, 1)[:, None, None])
        by_key = self._wider(self._by_key, tile_q)
        sparse = slowest_lane(by_key, tile_k, self.width - self.dense_lanes, 1).transpose(0, 2, 1)
        return np.maximum(dense, sparse) * chunks

    def spmm_cycles(self, counts: np.ndarray, tile_q: int, tile_k: int, chunks: int) -> np.ndarray:
        """(H, query tiles, key tiles); a lane owns chunks of outputs, numbered query by query, `chunks` a query, and
        dealt out in that order; each takes a cycle for every position of its query. `counts` are
        `sparse_counts(tile_k)`."""
        queries = tile_sizes(self.tokens, tile_q)
        rounds = -(-queries * chunks // np.maximum(self.dense_lanes, 1)[:, None])  # (H, query tiles)
        dense = rounds[:, :, None] * self.keys(self.is_global, tile_k)[:, None, :]
        return np.maximum(dense, slowest_lane(counts, tile_q, self.width - self.dense_lanes, chunks))

    def fewest_sddmm_cycles(self, tile_q: int, chunks: int) -> int:
        """At least the sum of `sddmm_cycles` for every tile_k: lanes evenly full."""
        rows = np.add.reduceat(self.sparse_counts(self.tokens)[:, :, 0], np.arange(0, self.tokens, tile_q), axis=1)
        positions = tile_sizes(self.tokens, tile_q) * self.is_global.sum(axis=1)[:, None]  # (H, query tiles)
        sparse = -(-rows // np.maximum(self.width - self.dense_lanes, 1)[:, None])
        dense = -(-positions // np.maximum(self.dense_lanes, 1)[:, None])
        return int(np.maximum(sparse, dense).sum()) * chunks

    def scores(self, tile_q: int) -> np.ndarray:
        """Scores that are made, (H, query tiles): all of global keys, kept ones of the others."""
        rows = self.sparse_counts(self.tokens)[:, :, 0]
        made = np.add.reduceat(rows, np.arange(0, self.tokens, tile_q), axis=1, dtype=np.int64)
        return made + tile_sizes(self.tokens, tile_q) * self.is_global.sum(axis=1)[:, None]

    def metadata_bits(self, counts: np.ndarray, tile_q: int, tile_k: int, kind: str) -> np.ndarray:
        """Bits of every tile, (H, query tiles, key tiles) int64."""
        queries = tile_sizes(self.tokens, tile_q)[None, :, None]
        keys = tile_sizes(self.tokens, tile_k)[None, None, :]
        dense = self.keys(self.is_global, tile_k)[:, None, :]
        sparse = keys - dense
        if kind == "bitmap":
            bits = queries * sparse
        else:
            index = max(1, (tile_k - 1).bit_length())
            kept = np.add.reduceat(counts, np.arange(0, self.tokens, tile_q), axis=1, dtype=np.int64)
            bits = kept * index + np.where(sparse > 0, queries * (index + 1), 0)
        mixed = np.where((dense > 0) & (sparse > 0), keys, 0)
        return bits + mixed + queries * self.keys(self.holes, tile_k)[:, None, :]


def tile_sizes(tokens: int, tile: int) -> np.ndarray:
    """Tokens of every tile; the last may be smaller."""
    return np.minimum(tile, tokens - tile * np.arange(ceil_div(tokens, tile)))


@njit(cache=True, nogil=True)
def slowest_lane(counts: np.ndarray, tile: int, lanes: np.ndarray, units: int) -> np.ndarray:
    """(H, tiles of m, n) int64: the fullest lane of each tile, from positions `counts` (H, m, n).

    Item i of a tile has `units` units of counts[i] each; unit u of item i belongs to lane (units i + u) mod
    lanes[head].
    """
    heads, items, n = counts.shape
    tiles = -(-items // tile)
    slowest = np.zeros((heads, tiles, n), dtype=np.int64)
    for head in range(heads):
        if lanes[head] == 0:
            continue
        lane = np.empty((lanes[head], n), dtype=np.int64)
        for t in range(tiles):
            lane[:] = 0
            unit = 0
            for item in range(t * tile, min((t + 1) * tile, items)):
                for _ in range(units):
                    row = lane[unit % lanes[head]]
                    for k in range(n):
                        row[k] += counts[head, item, k]
                    unit += 1
            for row in lane:
                for k in range(n):
                    slowest[head, t, k] = max(slowest[head, t, k], row[k])
    return slowest
