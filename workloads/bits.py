"""numba kernels over packed mask words; each is one pass over the words it is given.

Words are uint64, shape (rows, n_words); bit j of word w is column 64*w + j; unused bits are zero.
Popcounts use the compiler's ctpop instruction.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

WORD_BITS = 64


def _popcount(typing_context, word):
    """Set bits of one uint64."""

    def emit(context, builder, signature, arguments):
        ctpop = builder.module.declare_intrinsic("llvm.ctpop", [ir.IntType(64)])
        return builder.call(ctpop, arguments)

    return types.uint64(types.uint64), emit


popcount: Any = intrinsic(_popcount)  # for use inside the kernels


@njit(cache=True, nogil=True)
def word_counts(words: np.ndarray) -> np.ndarray:
    """Kept columns in every word: (rows, n_words) uint8."""
    rows, n_words = words.shape
    counts = np.empty((rows, n_words), dtype=np.uint8)
    for r in range(rows):
        for w in range(n_words):
            counts[r, w] = popcount(words[r, w])
    return counts


@njit(cache=True, nogil=True)
def masked_word_counts(words: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """`word_counts` of only the columns whose bit is set in `chosen` (n_words,)."""
    rows, n_words = words.shape
    counts = np.empty((rows, n_words), dtype=np.uint8)
    for r in range(rows):
        for w in range(n_words):
            counts[r, w] = popcount(words[r, w] & chosen[w])
    return counts


@njit(cache=True, nogil=True)
def row_counts(words: np.ndarray) -> np.ndarray:
    """Kept columns of every row: (rows,) int64."""
    rows, n_words = words.shape
    counts = np.zeros(rows, dtype=np.int64)
    for r in range(rows):
        total = np.uint64(0)
        for w in range(n_words):
            total += popcount(words[r, w])
        counts[r] = total
    return counts


@njit(cache=True, nogil=True)
def column_counts(words: np.ndarray) -> np.ndarray:
    """Kept rows of every column: (64 * n_words,) int64.

    Seven rows at a time are summed by carry-save adders into three bit planes, and those ripple into vertical counters
    (plane p of word w holds bit p of the counts of its 64 columns), so the cost is a few operations a word.
    """
    rows, n_words = words.shape
    n_planes = 1
    while (1 << n_planes) <= rows + 7:
        n_planes += 1
    n_planes = max(n_planes, 3)
    planes = np.zeros((n_planes, n_words), dtype=np.uint64)
    carry = np.empty(n_words, dtype=np.uint64)
    none = np.zeros(n_words, dtype=np.uint64)
    for first in range(0, rows, 7):
        x0 = words[first]
        x1 = words[first + 1] if first + 1 < rows else none
        x2 = words[first + 2] if first + 2 < rows else none
        x3 = words[first + 3] if first + 3 < rows else none
        x4 = words[first + 4] if first + 4 < rows else none
        x5 = words[first + 5] if first + 5 < rows else none
        x6 = words[first + 6] if first + 6 < rows else none
        _add_seven(planes, carry, x0, x1, x2, x3, x4, x5, x6)
        for p in range(3, n_planes):
            if not _ripple(planes[p], carry):
                break
    counts = np.zeros(n_words * 64, dtype=np.int64)
    for p in range(n_planes):
        for w in range(n_words):
            for j in range(64):
                counts[64 * w + j] += np.int64((planes[p, w] >> np.uint64(j)) & np.uint64(1)) << p
    return counts


@njit(cache=True, nogil=True)
def _add_seven(planes, carry, x0, x1, x2, x3, x4, x5, x6):
    """planes[0:3] += x0 + ... + x6 (each a one-bit number per column); `carry` gets what leaves plane 2."""
    for w in range(x0.shape[0]):
        a = x0[w] ^ x1[w] ^ x2[w]
        a2 = (x0[w] & x1[w]) | ((x0[w] ^ x1[w]) & x2[w])
        b = x3[w] ^ x4[w] ^ x5[w]
        b2 = (x3[w] & x4[w]) | ((x3[w] ^ x4[w]) & x5[w])
        ones = a ^ b ^ x6[w]
        c2 = (a & b) | ((a ^ b) & x6[w])
        twos = a2 ^ b2 ^ c2
        fours = (a2 & b2) | ((a2 ^ b2) & c2)
        k0 = planes[0, w] & ones
        planes[0, w] ^= ones
        p1 = planes[1, w]
        k1 = (p1 & twos) | ((p1 ^ twos) & k0)
        planes[1, w] = p1 ^ twos ^ k0
        p2 = planes[2, w]
        carry[w] = (p2 & fours) | ((p2 ^ fours) & k1)
        planes[2, w] = p2 ^ fours ^ k1


@njit(cache=True, nogil=True)
def _ripple(plane, carry):
    """plane += carry; the new carry replaces the old. Returns whether any column still carries."""
    left = np.uint64(0)
    for w in range(plane.shape[0]):
        out = plane[w] & carry[w]
        plane[w] ^= carry[w]
        carry[w] = out
        left |= out
    return left != np.uint64(0)


@njit(cache=True, nogil=True)
def largest_run(words: np.ndarray, cols: int, m: int) -> int:
    """The largest number of kept columns in any aligned run of m columns of a row (m <= 64)."""
    rows = words.shape[0]
    largest = 0
    full = ~np.uint64(0) if m == 64 else (np.uint64(1) << np.uint64(m)) - np.uint64(1)
    for r in range(rows):
        for first in range(0, cols, m):
            w = first // 64
            shift = first % 64
            run = words[r, w] >> np.uint64(shift)
            if shift + m > 64 and w + 1 < words.shape[1]:
                run |= words[r, w + 1] << np.uint64(64 - shift)
            kept: Any = np.int64(popcount(run & full))
            if kept > largest:
                largest = kept
    return largest


@njit(cache=True, nogil=True)
def field_exceeds(words: np.ndarray, n: int, m: int) -> bool:
    """Whether any aligned run of m = 4, 8 or 16 columns keeps more than n; all runs of a word are counted side by
    side."""
    pairs, fours = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333)
    bytes_, shorts = np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0x00FF00FF00FF00FF)
    ones = ~np.uint64(0) // ((np.uint64(1) << np.uint64(m)) - np.uint64(1))  # 1 in every field of m bits
    top = ones << np.uint64(m - 1)
    add = ones * np.uint64((1 << (m - 1)) - 1 - n)  # carries into the top bit from n + 1 on
    for r in range(words.shape[0]):
        seen = np.uint64(0)
        for w in range(words.shape[1]):
            x = words[r, w]
            x = x - ((x >> np.uint64(1)) & pairs)
            x = (x & fours) + ((x >> np.uint64(2)) & fours)
            if m > 4:
                x = (x + (x >> np.uint64(4))) & bytes_
            if m > 8:
                x = (x + (x >> np.uint64(8))) & shorts
            seen |= x + add
        if seen & top:
            return True
    return False


def pack(dense: np.ndarray) -> np.ndarray:
    """Boolean (rows, cols) -> words (rows, ceil(cols / 64)) uint64."""
    rows, cols = dense.shape
    n_words = -(-cols // WORD_BITS)
    octets = np.zeros((rows, n_words * 8), dtype=np.uint8)
    octets[:, : -(-cols // 8)] = np.packbits(dense, axis=1, bitorder="little")
    return octets.view("<u8").astype(np.uint64, copy=False)


def unpack(words: np.ndarray, cols: int) -> np.ndarray:
    """Words -> boolean (rows, cols)."""
    octets = np.ascontiguousarray(words, dtype="<u8").view(np.uint8)
    return np.unpackbits(octets, axis=1, count=cols, bitorder="little").astype(bool)


@njit(cache=True, nogil=True)
def count_and_checksum(words: np.ndarray) -> tuple[int, int]:
    """(kept weights, a 64-bit checksum of the words and their order), in one pass at memory speed.

    FNV-1a on whole words in four interleaved lanes: a step is a bijection of the lane, so that any change of a single
    word, and almost any other damage, changes the result. It guards against accidents, not against intent; sha256 does.
    """
    flat = words.ravel()
    prime = np.uint64(0x100000001B3)
    lanes = np.full(4, 0xCBF29CE484222325, dtype=np.uint64)
    a, b, c, d = lanes[0], lanes[1] + np.uint64(1), lanes[2] + np.uint64(2), lanes[3] + np.uint64(3)
    kept = np.uint64(0)
    whole = len(flat) // 4 * 4
    for i in range(0, whole, 4):
        kept += popcount(flat[i]) + popcount(flat[i + 1]) + popcount(flat[i + 2]) + popcount(flat[i + 3])
        a = (a ^ flat[i]) * prime
        b = (b ^ flat[i + 1]) * prime
        c = (c ^ flat[i + 2]) * prime
        d = (d ^ flat[i + 3]) * prime
        a ^= a >> np.uint64(29)
        b ^= b >> np.uint64(29)
        c ^= c >> np.uint64(29)
        d ^= d >> np.uint64(29)
    for i in range(whole, len(flat)):
        kept += popcount(flat[i])
        a = (a ^ flat[i]) * prime
        a ^= a >> np.uint64(29)
    for lane in (b, c, d):
        a = (a ^ lane) * prime
        a ^= a >> np.uint64(29)
    return int(kept), int(a)


@njit(cache=True, nogil=True)
def run_extremes(words: np.ndarray, cols: int) -> np.ndarray:
    """(most, least) kept columns in any whole aligned run of 2, 4, 8, 16 and 32 columns of a row: (5, 2) int64.

    Runs that a row cuts short are left out; where no whole run fits, the row says (0, m). Each level stops once both
    are reached."""
    sides = np.array([2, 4, 8, 16, 32])
    most, least = np.zeros(5, dtype=np.int64), sides.copy()
    for r in range(words.shape[0]):
        for w in range(words.shape[1]):
            word = words[r, w]
            left = min(64, cols - 64 * w)
            for level in range(5):
                m = sides[level]
                if most[level] == m and least[level] == 0:
                    continue
                field = (np.uint64(1) << np.uint64(m)) - np.uint64(1)
                for first in range(0, left - m + 1, m):
                    kept: Any = np.int64(popcount((word >> np.uint64(first)) & field))
                    if kept > most[level]:
                        most[level] = kept
                    if kept < least[level]:
                        least[level] = kept
    return np.stack((most, least), axis=1)
