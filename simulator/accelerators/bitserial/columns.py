"""Bit columns of quantized weights in sign-magnitude form, for bit-serial designs."""

import numpy as np
from numba import njit

from workloads.bits import popcount
from workloads.codes import decode_row


@njit(cache=True, nogil=True)
def bit_columns(codes, zero, words, cols, width, packed, group):
    """Of every run of `group` weights along a row: nonzero magnitude columns and 1 where any weight is negative, both
    (rows, ceil(cols / group)) uint8. Then the OR of all magnitudes, and cells: sum of columns x weights of the run.

    A magnitude column is bit b of all magnitudes of a run; it is nonzero where any of them has it.
    """
    rows = codes.shape[0]
    n = -(-cols // group)
    columns = np.empty((rows, n), dtype=np.uint8)
    signs = np.empty((rows, n), dtype=np.uint8)
    integers = np.empty(cols, dtype=np.int16)
    every, cells = np.int64(0), np.int64(0)
    for r in range(rows):
        decode_row(r, codes, zero, words, cols, width, packed, integers)
        for g in range(n):
            union, negative = np.int16(0), np.int16(0)
            last = min((g + 1) * group, cols)
            # `union` has the bits that any magnitude of the run has; `negative` has the sign bit once any weight is
            # below 0
            for c in range(g * group, last):
                value = integers[c]
                union |= abs(value)
                negative |= value
            count = np.int64(popcount(np.uint64(union)))
            columns[r, g] = count
            signs[r, g] = negative < 0
            every |= np.int64(union)
            cells += count * (last - g * group)
    return columns, signs, every, cells


@njit(cache=True, nogil=True)
def lockstep_sums(columns, outputs, runs):
    """Cycles of a step: every run takes the most columns that any of `outputs` rows has, at least one; summed over
    `runs` neighbouring runs: (ceil(rows / outputs), ceil(n / runs)) int64."""
    rows, n = columns.shape
    sums = np.zeros((-(-rows // outputs), -(-n // runs)), dtype=np.int64)
    slowest = np.empty(n, dtype=np.uint8)
    for first in range(0, rows, outputs):
        slowest[:] = 1
        # slowest[g]: the most columns of run g among the rows of this step so far, at least one
        for r in range(first, min(first + outputs, rows)):
            for g in range(n):
                slowest[g] = max(slowest[g], columns[r, g])
        for g in range(n):
            sums[first // outputs, g // runs] += slowest[g]
    return sums
