"""N:M patterns of mask words: the cover of every row of a tile, and whether a mask holds a pattern of two ranks."""

import numpy as np
from numba import njit

from workloads.bits import popcount

_ONES = np.uint64(0x1111111111111111)
_PAIRS = np.uint64(0x5555555555555555)
_QUADS = np.uint64(0x3333333333333333)


@njit(cache=True, nogil=True)
def row_covers(words: np.ndarray, cols: int, depth: int) -> np.ndarray:
    """Of every row of a tile of `depth` inputs (a multiple of 4): the least of 1, 2, 4 that no aligned four of its
    inputs keeps more than, (rows, ceil(cols / depth)) uint8. A row without kept weights has 1."""
    rows, n_words = words.shape
    tiles = -(-cols // depth)
    covers = np.ones((rows, tiles), dtype=np.uint8)
    # covers[r, t] is the cover of the fours of tile t in words before w; a word may lie in several tiles, `part` masks
    # its bits of one
    for r in range(rows):
        for w in range(n_words):
            pairs = (words[r, w] & _PAIRS) + ((words[r, w] >> np.uint64(1)) & _PAIRS)
            fours = (pairs & _QUADS) + ((pairs >> np.uint64(2)) & _QUADS)  # kept in every four, 0..4 in its four bits
            above_one = ((fours >> np.uint64(1)) | (fours >> np.uint64(2))) & _ONES
            above_two = ((fours >> np.uint64(2)) | (fours & (fours >> np.uint64(1)))) & _ONES
            if above_one == 0:
                continue
            first = 64 * w
            for t in range(first // depth, min((first + 63) // depth + 1, tiles)):
                low = max(t * depth, first) - first
                high = min((t + 1) * depth, first + 64) - first
                part = ~np.uint64(0) << np.uint64(low)
                if high < 64:
                    part &= (np.uint64(1) << np.uint64(high)) - np.uint64(1)
                if above_two & part:
                    covers[r, t] = 4
                elif above_one & part and covers[r, t] == 1:
                    covers[r, t] = 2
    return covers


@njit(cache=True, nogil=True)
def cover_counts(covers: np.ndarray, group_rows: int) -> np.ndarray:
    """Rows of each cover in every tile of `group_rows` rows: (3, ceil(rows / group_rows), tiles) int64, covers 1, 2,
    4."""
    rows, tiles = covers.shape
    counts = np.zeros((3, -(-rows // group_rows), tiles), dtype=np.int64)
    for r in range(rows):
        for t in range(tiles):
            counts[covers[r, t] >> 1, r // group_rows, t] += 1
    return counts


@njit(cache=True, nogil=True)
def holds_ranks(words: np.ndarray, cols: int, inner: int, inner_of: int, outer: int, outer_of: int) -> bool:
    """Whether every aligned block of `inner_of` inputs keeps at most `inner` weights, and every aligned run of
    `outer_of` blocks at most `outer` blocks that keep any. Blocks and runs that the last input cuts short count as
    well; inner_of <= 64."""
    rows, n_words = words.shape
    full = ~np.uint64(0) if inner_of == 64 else (np.uint64(1) << np.uint64(inner_of)) - np.uint64(1)
    # `place` blocks of the open run are read, `kept_blocks` of them keep something
    for r in range(rows):
        kept_blocks, place = 0, 0
        for first in range(0, cols, inner_of):
            w, shift = first >> 6, first & 63
            block = words[r, w] >> np.uint64(shift)
            if shift + inner_of > 64 and w + 1 < n_words:
                block |= words[r, w + 1] << np.uint64(64 - shift)
            kept = np.int64(popcount(block & full))
            if kept > inner:
                return False
            if kept:
                kept_blocks += 1
                if kept_blocks > outer:
                    return False
            place += 1
            if place == outer_of:
                kept_blocks, place = 0, 0
    return True
