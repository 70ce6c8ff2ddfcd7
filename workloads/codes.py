"""Quantized weights of a bundle as the integers that bit-level hardware sees: code - zero point, 0 where the mask
prunes.

A layer's values (bundle.LayerEntry) hold codes of up to 8 bits, those of up to 4 two a byte. An integer is within
-255..255. Scales play no part. Rows are decoded one at a time into a buffer, so that a pass over a layer copies nothing
of its size."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit

from workloads.errors import UserError
from workloads.mask import PackedMask


@dataclass(frozen=True)
class Coded:
    """codes (rows, cols) uint8, or (rows, ceil(cols / 2)) where `packed`, the lower half first; zero (rows, groups)
    uint8, a group `width` inputs wide; words (rows, ceil(cols / 64)) of the mask."""

    codes: np.ndarray
    zero: np.ndarray
    words: np.ndarray
    cols: int
    width: int
    packed: bool

    @property
    def arguments(self) -> tuple:
        """In the order that `decode_row` takes them after the row."""
        return self.codes, self.zero, self.words, self.cols, self.width, self.packed


def coded(tensors: Mapping[str, np.ndarray], mask: PackedMask) -> Coded:
    """The codes among a layer's values. Raises UserError where there are none, or they do not fit the mask's shape."""
    if "codes" not in tensors:
        found = f"holds {' and '.join(sorted(tensors))} weights" if tensors else "holds a mask without weights"
        raise UserError(
            f"the bits of quantized weights are needed, but the bundle {found} here; quantize while pruning, such as "
            "to 8 bits"
        )
    codes, zero = tensors["codes"], tensors["zero"]
    rows, cols = mask.shape
    packed = codes.shape == (rows, -(-cols // 2)) and cols > 1  # a single column reads the same either way
    fits = packed or codes.shape == (rows, cols)
    if not fits or zero.ndim != 2 or len(zero) != rows or zero.shape[1] == 0 or cols % zero.shape[1]:
        raise UserError(
            f"codes of shape {codes.shape} with zero points of shape {zero.shape} do not fit {rows} x {cols} weights; "
            "make the bundle again"
        )
    if codes.dtype != np.uint8 or zero.dtype != np.uint8:
        raise UserError(
            f"codes are {codes.dtype} and zero points {zero.dtype}, both must be uint8; make the bundle again"
        )
    return Coded(codes, zero, mask.words, cols, cols // zero.shape[1], packed)


@njit(cache=True, nogil=True)
def decode_row(row, codes, zero, words, cols, width, packed, integers):
    """Fills `integers` (cols,) int16 with the weights of one row."""
    for first in range(0, cols, width):
        middle = np.int16(zero[row, first // width])
        last = min(first + width, cols)
        if packed:
            for c in range(first, last):
                code = (codes[row, c >> 1] >> ((c & 1) << 2)) & 15
                kept = np.int16((words[row, c >> 6] >> np.uint64(c & 63)) & np.uint64(1))
                integers[c] = (np.int16(code) - middle) * kept
        else:
            for c in range(first, last):
                kept = np.int16((words[row, c >> 6] >> np.uint64(c & 63)) & np.uint64(1))
                integers[c] = (np.int16(codes[row, c]) - middle) * kept


@njit(cache=True, nogil=True)
def _all_rows(codes, zero, words, cols, width, packed):
    rows = codes.shape[0]
    integers = np.empty((rows, cols), dtype=np.int16)
    for r in range(rows):
        decode_row(r, codes, zero, words, cols, width, packed, integers[r])
    return integers


def integers(weights: Coded) -> np.ndarray:
    """(rows, cols) int16, all at once: two bytes a weight."""
    return _all_rows(*weights.arguments)
