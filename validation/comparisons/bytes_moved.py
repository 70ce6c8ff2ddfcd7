"""Bits of every design's format and of its vectors, counted on the dense mask: what a layer must move at least once."""

from typing import Any

import numpy as np

from validation.runs import n_of_m, random_mask
from workloads.mask import PackedMask

ROWS, COLS = 512, 1024  # whole chunks, tiles and words of every design
SEED = 12
SETS = {"vitcod": ("engines.dense_thresholds=[1.0]",)}  # all columns in the bitmap


def mask_of(name: str, density: float) -> tuple[PackedMask, np.ndarray | None]:
    """A mask that the design does not run dense, and integers where it reads values."""
    if name == "stc":
        return n_of_m(ROWS, COLS, 2, 4, SEED), None
    if name == "highlight":  # 4 of 8 in 2 of 4 blocks
        rng = np.random.default_rng(SEED)
        blocks = rng.random((ROWS, COLS // 32, 4, 1)).argsort(axis=2) < 2
        places = rng.random((ROWS, COLS // 32, 4, 8)).argsort(axis=3) < 4
        return PackedMask.from_dense((blocks & places).reshape(ROWS, COLS)), None
    mask = random_mask(ROWS, COLS, density, (SEED, round(100 * density)))
    if name != "bitwave":
        return mask, None
    drawn = np.random.default_rng(SEED).integers(-127, 128, (ROWS, COLS))
    return mask, np.where(mask.to_dense(), drawn, 0)


def total_bits(name: str, spec: Any, mask: PackedMask, weights: np.ndarray | None, tokens: int) -> int:
    """Weights, metadata, inputs and outputs."""
    vectors = (mask.cols + mask.rows) * tokens * spec.number.activation_bits
    return weight_bits(name, spec.number.weight_bits, mask, weights) + vectors


def weight_bits(name: str, width: int, mask: PackedMask, weights: np.ndarray | None) -> int:
    kept = mask.to_dense()
    size, nnz = kept.size, int(kept.sum())
    if name == "vitcod" or name == "sigma":
        return nnz * width + size  # a bit a position
    if name == "sparten":
        return nnz * width + size // 128 * (128 + 32)  # a mask and a pointer a chunk
    if name == "eie":
        return 0  # in SRAM before
    if name == "stc":
        return size // 2 * (width + 2)
    if name == "dstc":
        tiles = kept.reshape(ROWS // 16, 16, COLS // 16, 16).any(axis=(1, 3))
        return nnz * width + tiles.size + int(tiles.sum()) * 256
    if name == "highlight":
        return size // 32 * (8 * width + 8 * 3 + 2 * 2)  # 8 slots, places in blocks of 8, places of 2 blocks among 4
    if name == "vegeta":
        fullest = kept.reshape(ROWS, COLS // 64, 16, 4).sum(axis=3).max(axis=2)
        cover = np.array([1, 1, 2, 4, 4])[fullest]
        return int(cover.sum()) * 16 * (width + 2) + 2 * cover.size
    if name == "bitwave":
        assert weights is not None
        groups = weights.reshape(ROWS, COLS // 8, 8)
        columns = np.bitwise_count(np.bitwise_or.reduce(np.abs(groups), axis=2)) + (groups < 0).any(axis=2)
        return int(columns.sum()) * 8 + 8 * columns.size + 16 * ROWS  # and a scale a row
    return size * width  # systolic arrays and stripes store everything
