"""Tile statistics from packed masks, gathered once per mask; every tile shape is evaluated from them."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def word_sums(counts: np.ndarray, width: int) -> np.ndarray:
    """(rows, n) -> (rows, ceil(n / width)) int32: counts of column ranges `width` times as wide; the last may be shorter."""
    rows, n = counts.shape
    wider = np.zeros((rows, (n + width - 1) // width), dtype=np.int32)
    for r in range(rows):
        for t in range(wider.shape[1]):
            total = np.int32(0)
            for w in range(t * width, min((t + 1) * width, n)):
                total += np.int32(counts[r, w])
            wider[r, t] = total
    return wider


@njit(cache=True, nogil=True)
def lane_cycles(counts: np.ndarray, tile_rows: int, lanes: int, lane_macs: int) -> np.ndarray:
    """Cycles a token of every tile, (ceil(rows / tile_rows), n) int64, from kept weights per (row, column tile).

    Row i of a tile belongs to lane i mod lanes; a row of c kept weights takes ceil(c / lane_macs) cycles; the tile ends
    with its slowest lane.
    """
    rows, n = counts.shape
    groups = -(-rows // tile_rows)
    cycles = np.zeros((groups, n), dtype=np.int64)
    if lanes == 0:
        return cycles
    lane = np.empty((lanes, n), dtype=np.int64)
    for g in range(groups):
        lane[:] = 0
        first = g * tile_rows
        for r in range(first, min(first + tile_rows, rows)):
            k = (r - first) % lanes
            for t in range(n):
                lane[k, t] += (counts[r, t] + lane_macs - 1) // lane_macs
        for k in range(lanes):
            for t in range(n):
                if lane[k, t] > cycles[g, t]:
                    cycles[g, t] = lane[k, t]
    return cycles


@njit(cache=True, nogil=True)
def group_sums(counts: np.ndarray, tile_rows: int) -> np.ndarray:
    """Kept weights of every tile: (ceil(rows / tile_rows), n) int64 from (rows, n)."""
    rows, n = counts.shape
    sums = np.zeros((-(-rows // tile_rows), n), dtype=np.int64)
    for r in range(rows):
        for t in range(n):
            sums[r // tile_rows, t] += counts[r, t]
    return sums
