"""Kernels over rows of counted mask words: lanes, tiles and their bytes. Tiles are lanes' rows by runs of words."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def group_sums(counts: np.ndarray, tile_rows: int) -> np.ndarray:
    """Kept weights of every group of rows: (ceil(rows / tile_rows), n) int32 from (rows, n)."""
    rows, n = counts.shape
    sums = np.zeros((-(-rows // tile_rows), n), dtype=np.int32)
    for g in range(sums.shape[0]):
        for r in range(g * tile_rows, min((g + 1) * tile_rows, rows)):
            for w in range(n):
                sums[g, w] += np.int32(counts[r, w])
    return sums


@njit(cache=True, nogil=True)
def running_sums(counts: np.ndarray) -> np.ndarray:
    """(rows, n) -> (n + 1, rows) int32: kept weights of every row before each word; a word's rows lie side by side, so
    that lanes are counted many at a time."""
    rows, n = counts.shape
    before = np.zeros((n + 1, rows), dtype=np.int32)
    # Blocks of 64 rows, so that the rows of a word that are written stay in cache: before[w] is whole for the block
    # when before[w + 1] is made from it.
    for start in range(0, rows, 64):
        for w in range(n):
            for r in range(start, min(start + 64, rows)):
                before[w + 1, r] = before[w, r] + np.int32(counts[r, w])
    return before


@njit(cache=True, nogil=True)
def tile_cycles(
    before: np.ndarray, dense_cols: np.ndarray, sides: np.ndarray, lanes: int, dense_lanes: int, lane_macs: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cycles a token of every tile of every shape, int32, shape after shape; and where each shape starts, (shapes +
    1,).

    `before` (n + 1, rows) are `running_sums`; dense_cols (n,) dense columns of each word; sides (shapes, 2) rows and
    words of a tile. Of `lanes`, dense_lanes take the dense columns, lane_macs a cycle. Row i of a tile belongs to lane
    i mod the others, a row takes ceil(kept / lane_macs), and the slowest lane counts. The slower of both engines ends
    the tile; no lanes, no cycles.
    """
    n, rows = before.shape[0] - 1, before.shape[1]
    starts = np.zeros(len(sides) + 1, dtype=np.int64)
    for i in range(len(sides)):
        starts[i + 1] = starts[i] + -(-rows // sides[i, 0]) * -(-n // sides[i, 1])
    cycles = np.empty(starts[-1], dtype=np.int32)
    if dense_lanes == 0:
        _additive_cycles(before, sides, lanes, lane_macs, starts, cycles)
        return cycles, starts
    steps = np.empty(max(lanes - dense_lanes, 1), dtype=np.int32)
    for i in range(len(sides)):
        tile_rows, tile_words = sides[i]
        # cycles[place] is the next tile of shape i; tiles go row by row of tiles, as starts counts them
        place = starts[i]
        for start in range(0, rows, tile_rows):
            stop = min(start + tile_rows, rows)
            for word in range(0, n, tile_words):
                end = min(word + tile_words, n)
                busy = 0
                if lanes > dense_lanes:
                    busy = _slowest(before[word, start:stop], before[end, start:stop], steps, lane_macs)
                dense = dense_cols[word:end].sum()
                cycles[place] = max(busy, -(-(stop - start) // dense_lanes) * -(-dense // lane_macs))
                place += 1
    return cycles, starts


@njit(cache=True, nogil=True)
def _additive_cycles(
    before: np.ndarray, sides: np.ndarray, lanes: int, lane_macs: int, starts: np.ndarray, cycles: np.ndarray
) -> None:
    """`tile_cycles` where all lanes are alike and tiles are whole groups of `lanes` rows: a lane then has the same rows
    of a group in tiles of every height, so that what it does is counted once for all shapes of a width."""
    n, rows = before.shape[0] - 1, before.shape[1]
    groups = -(-rows // lanes)
    done = np.zeros((groups + 1, lanes), dtype=np.int32)  # cycles of each lane before each group of rows
    share = 1 / lane_macs  # divides exactly, see `_slowest`
    add = lane_macs - 0.5
    first = 0
    while first < len(sides):
        width, last = sides[first, 1], first
        while last < len(sides) and sides[last, 1] == width:
            last += 1
        col_tiles = -(-n // width)
        for t in range(col_tiles):
            start, stop = before[t * width], before[min((t + 1) * width, n)]
            for g in range(groups):
                own, other = start[g * lanes : (g + 1) * lanes], stop[g * lanes : (g + 1) * lanes]
                # the last group may have fewer rows: their lanes do nothing more
                done[g + 1] = done[g]
                for k in range(len(own)):
                    done[g + 1, k] += np.int32((np.int32(other[k] - own[k]) + add) * share)
            for i in range(first, last):
                height = sides[i, 0] // lanes
                place = starts[i] + t
                for g in range(0, groups, height):
                    begun, ended = done[g], done[min(g + height, groups)]
                    slowest = np.int32(0)
                    for k in range(lanes):
                        slowest = max(slowest, ended[k] - begun[k])
                    cycles[place] = slowest
                    place += col_tiles
        first = last


@njit(cache=True, nogil=True)
def _slowest(before: np.ndarray, after: np.ndarray, steps: np.ndarray, lane_macs: int) -> int:
    """Cycles of the slowest lane; `steps` is scratch of one a lane. Dividing by multiplication is exact: a quotient
    plus 1 / (2 * lane_macs) is further from the whole numbers than rounding moves it."""
    share = 1 / lane_macs
    add = lane_macs - 0.5
    rows, lanes = len(before), min(len(steps), len(before))
    # steps[k] is what lane k has done of the rows seen so far: rows k, k + lanes, k + 2 lanes, ...
    for k in range(lanes):
        steps[k] = np.int32((np.int32(after[k] - before[k]) + add) * share)
    for start in range(lanes, rows, lanes):
        some_before, some_after = before[start : start + lanes], after[start : start + lanes]
        for k in range(len(some_before)):
            steps[k] += np.int32((np.int32(some_after[k] - some_before[k]) + add) * share)
    slowest = np.int32(0)
    for k in range(lanes):
        slowest = max(slowest, steps[k])
    return int(slowest)


@njit(cache=True, nogil=True)
def _stored_bytes(kept, rows, cols, dense_cols, scales, weight_bits, index_bits, scale_bits):
    """Of one tile, see tile_bytes."""
    sparse_cols = cols - dense_cols
    metadata = 0
    if sparse_cols > 0:
        metadata = kept * index_bits + rows * (index_bits + 1) if index_bits > 0 else rows * sparse_cols
        if dense_cols > 0:
            metadata += cols
    weights = (kept + rows * dense_cols) * weight_bits
    return (weights + 7) >> 3, (metadata + 7) >> 3, (rows * scales * scale_bits + 7) >> 3


@njit(cache=True, nogil=True)
def tile_bytes(
    kept: np.ndarray,
    rows: np.ndarray,
    cols: np.ndarray,
    dense_cols: np.ndarray,
    scales: np.ndarray,
    weight_bits: int,
    index_bits: int,
    scale_bits: int,
) -> np.ndarray:
    """Bytes of weights, metadata and scales of every tile, (3, row tiles, column tiles) int64, each rounded up.

    `kept` (row tiles, column tiles) are kept weights of sparse columns; every weight of a dense column is stored.
    `rows`, `cols` and `dense_cols` are the sides; `scales` (column tiles,) the scales of a row. Metadata, of sparse
    columns only: index_bits = 0, a bitmap of one bit a position; else an index of so many bits a kept weight and a
    count of one more a row. Where dense and sparse columns mix, one bit a column tells them apart.
    """
    parts = np.empty((3, *kept.shape), dtype=np.int64)
    for g in range(kept.shape[0]):
        for t in range(kept.shape[1]):
            sides = (rows[g], cols[t], dense_cols[t], scales[t])
            parts[:, g, t] = _stored_bytes(np.int64(kept[g, t]), *sides, weight_bits, index_bits, scale_bits)
    return parts


@njit(cache=True, nogil=True)
def shape_facts(
    kept, rows, cols, dense_cols, lanes, dense_lanes, widths, heights, index_bits, weight_bits, scale_bits, group_size
):  # fmt: skip
    """What candidate_table must know of every tile shape, (widths * heights, 13) int64, in one pass: a layer has
    hundreds of shapes.

    Columns: rows and columns of a tile, row tiles, column tiles, rows of the last row tile; inputs read and sums
    written for a token; of `tile_bytes`: the most that a tile holds in the weight buffer (weights and scales) and of
    metadata; all weights, all metadata, all scales; what the first tile loads.

    `kept` (lane groups, n) kept weights of sparse columns in `lanes` rows and a word of 64 columns, dense_cols (n,)
    dense columns of a word; widths in words, index_bits of each; heights in lane groups. group_size = 0: one scale a
    row.
    """
    n, n_dense, all_kept = kept.shape[1], dense_cols.sum(), np.int64(kept.sum())
    table = np.empty((len(widths) * len(heights), 13), dtype=np.int64)
    dense_before = np.zeros(n + 1, dtype=np.int64)
    dense_before[1:] = np.cumsum(dense_cols)
    side, dense, scales = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    for i in range(len(heights)):
        tile_rows = heights[i] * lanes
        before = _sums_before(kept, heights[i])
        row_tiles = len(before)
        last_rows = rows - (row_tiles - 1) * tile_rows
        rounds = 0
        if dense_lanes > 0:
            rounds = (row_tiles - 1) * -(-tile_rows // dense_lanes) + -(-last_rows // dense_lanes)
        for j in range(len(widths)):
            width, col_tiles = widths[j], -(-n // widths[j])
            engines = 0
            for t in range(col_tiles):
                first, end = t * width, min((t + 1) * width, n)
                start, stop = 64 * first, min(64 * end, cols)
                side[t], dense[t] = stop - start, dense_before[end] - dense_before[first]
                scales[t] = -(-stop // group_size) - -(-start // group_size) if group_size > 0 else int(t == 0)
                engines += int(dense[t] > 0) + int(side[t] > dense[t])
            most_held = most_metadata = all_weights = all_metadata = all_scales = first_bytes = 0
            # before (row tiles, n + 1): a tile's kept weights are the difference of two of its row's entries
            for g in range(row_tiles):
                height = tile_rows if g + 1 < row_tiles else last_rows
                for t in range(col_tiles):
                    n_kept = before[g, min((t + 1) * width, n)] - before[g, t * width]
                    weights, metadata, scale = _stored_bytes(
                        n_kept, height, side[t], dense[t], scales[t], weight_bits, index_bits[j], scale_bits
                    )
                    most_held, most_metadata = max(most_held, weights + scale), max(most_metadata, metadata)
                    all_weights += weights
                    all_metadata += metadata
                    all_scales += scale
                    if g == 0 and t == 0:
                        first_bytes = weights + metadata + scale
            table[j * len(heights) + i] = (
                min(tile_rows, rows), side[0], row_tiles, col_tiles, last_rows,
                all_kept + rounds * n_dense, rows * engines,
                most_held, most_metadata, all_weights, all_metadata, all_scales, first_bytes,
            )  # fmt: skip
    return table


@njit(cache=True, nogil=True)
def _sums_before(kept: np.ndarray, height: int) -> np.ndarray:
    """(lane groups, n) -> (row tiles, n + 1) int64: kept weights of a row tile before each word."""
    groups, n = kept.shape
    before = np.zeros((-(-groups // height), n + 1), dtype=np.int64)
    # first the kept weights of each word, one place to the right; then their running sums along the words
    for g in range(groups):
        for w in range(n):
            before[g // height, w + 1] += kept[g, w]
    for g in range(len(before)):
        for w in range(n):
            before[g, w + 1] += before[g, w]
    return before


@njit(cache=True, nogil=True)
def load_cycles(
    loaded: np.ndarray, inputs: np.ndarray, resident: bool, burst_bytes: int, bytes_per_cycle: float
) -> int:
    """Cycles of all loads of one token tile, as port.Port.cycles counts them, in one pass without intermediate arrays.

    `loaded` (row tiles, column tiles) bytes of weights, metadata and scales; inputs (column tiles,), if resident with
    the first row tile only.
    """
    cycles_per_burst = burst_bytes / bytes_per_cycle
    total = 0
    for g in range(loaded.shape[0]):
        for t in range(loaded.shape[1]):
            size = loaded[g, t] + (inputs[t] if g == 0 or not resident else 0)
            total += int(np.ceil(-(-size // burst_bytes) * cycles_per_burst))
    return total
