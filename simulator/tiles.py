"""Kernels over rows of counted mask words: lanes, tiles and their bytes. Tiles are rows of lanes by runs of 64-column words."""

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
    """(rows, n) -> (rows, n + 1) int32: kept weights of a row before each word."""
    rows, n = counts.shape
    before = np.zeros((rows, n + 1), dtype=np.int32)
    for r in range(rows):
        for w in range(n):
            before[r, w + 1] = before[r, w] + np.int32(counts[r, w])
    return before


@njit(cache=True, nogil=True)
def lane_steps(before: np.ndarray, tile_words: int, lane_macs: int) -> np.ndarray:
    """`running_sums` (rows, n + 1) -> (rows, ceil(n / tile_words)) int32: cycles a row takes in each column tile, ceil(kept /
    lane_macs)."""
    rows, n = before.shape[0], before.shape[1] - 1
    steps = np.empty((rows, -(-n // tile_words)), dtype=np.int32)
    divided = np.empty(64 * tile_words + 1, dtype=np.int32)  # a table is faster than dividing
    for kept in range(len(divided)):
        divided[kept] = -(-kept // lane_macs)
    for r in range(rows):
        for t in range(steps.shape[1]):
            steps[r, t] = divided[before[r, min((t + 1) * tile_words, n)] - before[r, t * tile_words]]
    return steps


@njit(cache=True, nogil=True)
def lane_cycles(steps: np.ndarray, tile_rows: int, lanes: int) -> np.ndarray:
    """Cycles a token of every tile, (ceil(rows / tile_rows), n) int32, from `lane_steps`.

    Row i of a tile belongs to lane i mod lanes; the tile ends with its slowest lane. No lanes, no cycles.
    """
    rows, n = steps.shape
    cycles = np.zeros((-(-rows // tile_rows), n), dtype=np.int32)
    if lanes == 0:
        return cycles
    lane = np.empty((min(lanes, tile_rows), n), dtype=np.int32)
    for g in range(cycles.shape[0]):
        lane[:] = 0
        k = 0
        for r in range(g * tile_rows, min((g + 1) * tile_rows, rows)):
            for t in range(n):
                lane[k, t] += steps[r, t]
            k = k + 1 if k + 1 < lanes else 0
        for k in range(lane.shape[0]):
            for t in range(n):
                cycles[g, t] = max(cycles[g, t], lane[k, t])
    return cycles


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

    `kept` (row tiles, column tiles) are kept weights of sparse columns; every weight of a dense column is stored. `rows`, `cols`
    and `dense_cols` are the sides; `scales` (column tiles,) the scales of a row. Metadata, of sparse columns only: index_bits = 0,
    a bitmap of one bit a position; else an index of so many bits a kept weight and a count of one more a row. Where dense and
    sparse columns mix, one bit a column tells them apart.
    """
    parts = np.empty((3, *kept.shape), dtype=np.int64)
    for g in range(kept.shape[0]):
        for t in range(kept.shape[1]):
            n = np.int64(kept[g, t])
            sparse_cols = cols[t] - dense_cols[t]
            metadata = 0
            if sparse_cols:
                metadata = n * index_bits + rows[g] * (index_bits + 1) if index_bits else rows[g] * sparse_cols
                if dense_cols[t]:
                    metadata += cols[t]
            parts[0, g, t] = ((n + rows[g] * dense_cols[t]) * weight_bits + 7) // 8
            parts[1, g, t] = (metadata + 7) // 8
            parts[2, g, t] = (rows[g] * scales[t] * scale_bits + 7) // 8
    return parts


@njit(cache=True, nogil=True)
def byte_facts(parts: np.ndarray) -> tuple[int, int, int, int, int, int]:
    """Of `tile_bytes`: the most that a tile holds in the weight buffer (weights and scales) and of metadata; all weights, all
    metadata, all scales; what the first tile loads. One pass: a layer has hundreds of shapes."""
    most_held = most_metadata = weights = metadata = scales = 0
    for g in range(parts.shape[1]):
        for t in range(parts.shape[2]):
            weights += parts[0, g, t]
            metadata += parts[1, g, t]
            scales += parts[2, g, t]
            most_held = max(most_held, parts[0, g, t] + parts[2, g, t])
            most_metadata = max(most_metadata, parts[1, g, t])
    return most_held, most_metadata, weights, metadata, scales, parts[:, 0, 0].sum()


@njit(cache=True, nogil=True)
def load_cycles(
    loaded: np.ndarray, inputs: np.ndarray, resident: bool, burst_bytes: int, bytes_per_cycle: float
) -> int:
    """Cycles of all loads of one token tile, as port.Port.cycles counts them, in one pass without intermediate arrays.

    `loaded` (row tiles, column tiles) bytes of weights, metadata and scales; inputs (column tiles,), if resident with the first
    row tile only.
    """
    cycles_per_burst = burst_bytes / bytes_per_cycle
    total = 0
    for g in range(loaded.shape[0]):
        for t in range(loaded.shape[1]):
            size = loaded[g, t] + (inputs[t] if g == 0 or not resident else 0)
            total += int(np.ceil(-(-size // burst_bytes) * cycles_per_burst))
    return total
