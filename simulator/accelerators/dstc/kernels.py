"""Outer-product steps of a packed mask: the kept weights of each column of a strip of rows, 64 columns at once."""

import numpy as np
from numba import njit

from workloads.bits import popcount


@njit(cache=True, nogil=True)
def strip_steps(
    words: np.ndarray, cols: int, strip_rows: int, unit_rows: int, strips: int, depth: int, tile_cols: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Granules of `strips` strips of `strip_rows` rows (at most 64) x `depth` columns (a multiple of 64); all (row
    groups, column groups) int64: steps of the slowest strip, with ceil(kept / unit_rows) of every column; kept weights;
    bits of the two-level bitmap, one for every `tile_cols` (a divisor of 64) columns of a strip and one a position
    where any of these is kept; columns with a kept weight, added up over strips.

    Columns are counted in bit planes: plane p of a word holds bit p of the counts of its 64 columns.
    """
    rows, n_words = words.shape
    height = strip_rows * strips
    span = depth // 64
    shape = (-(-rows // height), -(-n_words // span))
    steps = np.zeros(shape, dtype=np.int64)
    kept = np.zeros(shape, dtype=np.int64)
    bitmap_bits = np.zeros(shape, dtype=np.int64)
    occupied = np.zeros(shape, dtype=np.int64)
    n_planes = 1
    while (1 << n_planes) <= strip_rows:
        n_planes += 1
    planes = np.empty((n_planes, n_words), dtype=np.uint64)
    own = np.empty(shape[1], dtype=np.int64)  # steps of the strip
    tile = ~np.uint64(0) if tile_cols == 64 else (np.uint64(1) << np.uint64(tile_cols)) - np.uint64(1)
    for first in range(0, rows, strip_rows):
        stop = min(first + strip_rows, rows)
        group = first // height
        planes[:] = 0
        own[:] = 0
        # adding a row's bits to 64 counters at once: `carry` are the columns that carry into plane p
        for r in range(first, stop):
            for w in range(n_words):
                carry = words[r, w]
                for p in range(n_planes):
                    out = planes[p, w] & carry
                    planes[p, w] ^= carry
                    carry = out
                    if carry == np.uint64(0):
                        break
        for w in range(n_words):
            cell = w // span
            seen = np.uint64(0)
            for p in range(n_planes):
                kept[group, cell] += np.int64(popcount(planes[p, w])) << p
                seen |= planes[p, w]
            occupied[group, cell] += np.int64(popcount(seen))
            # a column takes a step more for every `limit` that it keeps more than: count > limit, from the highest
            # plane down; `equal` are the columns whose count agrees with `limit` in all planes seen
            for limit in range(0, stop - first, unit_rows):
                above = np.uint64(0)  # columns that keep more than `limit`
                equal = ~np.uint64(0)
                for p in range(n_planes - 1, -1, -1):
                    if (limit >> p) & 1:
                        equal &= planes[p, w]
                    else:
                        above |= equal & planes[p, w]
                        equal &= ~planes[p, w]
                own[cell] += np.int64(popcount(above))
            for start in range(0, min(64, cols - 64 * w), tile_cols):
                bitmap_bits[group, cell] += 1
                if (seen >> np.uint64(start)) & tile:
                    bitmap_bits[group, cell] += (stop - first) * min(tile_cols, cols - 64 * w - start)
        for cell in range(shape[1]):
            steps[group, cell] = max(steps[group, cell], own[cell])
    return steps, kept, bitmap_bits, occupied
