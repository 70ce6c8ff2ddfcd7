"""Tile statistics from packed masks, gathered once per mask; every tile shape is evaluated from them."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def pair_sums(counts: np.ndarray) -> np.ndarray:
    """(rows, n) -> (rows, ceil(n / 2)) int32: counts of column ranges twice as wide; an odd last one stays alone."""
    rows, n = counts.shape
    wider = np.empty((rows, (n + 1) // 2), dtype=np.int32)
    for r in range(rows):
        for t in range(n // 2):
            wider[r, t] = np.int32(counts[r, 2 * t]) + np.int32(counts[r, 2 * t + 1])
        if n % 2:
            wider[r, n // 2] = counts[r, n - 1]
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
