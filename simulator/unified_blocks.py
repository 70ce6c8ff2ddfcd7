"""A weight format of small blocks: a block of one magnitude is stored as that and its signs, a block of zeros not at
all, every other block as it is. Two bits a block say which (methods 13).

It is read off the values that a bundle holds, whatever method made them: floats, or integers of quantized weights
(workloads/codes.py). Blocks are cut from the whole matrix; those at its ends are smaller.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from workloads.block_shape import block_shape
from workloads.bundle import BundleHeader
from workloads.codes import coded, integers
from workloads.errors import UserError
from workloads.mask import PackedMask
from workloads.steps import AFTER

NAME, KIND_BITS = "unified", 2
FLOATS = ("float32", "float16", "bfloat16")
COUNTED = ("blocks", "pruned_blocks", "unified_blocks", "free_blocks")


@dataclass(frozen=True)
class Stored:
    """Blocks by kind, and the weights in those of each."""

    blocks: int
    pruned_blocks: int
    unified_blocks: int
    unified_weights: int
    free_weights: int
    magnitude_bits: int

    def value_bits(self, bits: int) -> int:
        signs = self.unified_weights
        return self.free_weights * bits + self.unified_blocks * self.magnitude_bits + signs

    @property
    def metadata_bits(self) -> int:
        return KIND_BITS * self.blocks

    @property
    def shares(self) -> dict[str, Any]:
        free = self.blocks - self.pruned_blocks - self.unified_blocks
        counts = (self.pruned_blocks, self.unified_blocks, free)
        return dict(zip(COUNTED, (self.blocks, *(count / self.blocks for count in counts)), strict=True))


def is_unified(name: str) -> bool:
    return name.partition(":")[0] == NAME


def spelled_out(name: str, header: BundleHeader) -> str:
    """ "unified" -> "unified:1x8", the blocks that the bundle was made with. Raises UserError where it says of none,
    and for what is no block."""
    if name != NAME:
        block_shape(name.removeprefix(f"{NAME}:"))
        return name
    found = block_of(header)
    if found is None:
        raise UserError(f"{NAME}: the masks are not of blocks that share a magnitude; say of which: {NAME}:1x8")
    return f"{NAME}:{found}"


def block_of(header: BundleHeader) -> str | None:
    """The blocks that a bundle, or one that it came after, was made with."""
    parameters: Any = header.parameters
    while isinstance(parameters, dict):
        found = parameters.get("block")
        if isinstance(found, str):
            try:
                block_shape(found)
            except UserError:
                return None
            return found
        parameters = (parameters.get(AFTER) or {}).get("parameters")
    return None


def stored_unified(name: str, mask: PackedMask, values: Mapping[str, np.ndarray], bits: int) -> Stored:
    """`name` as `spelled_out` has it. Raises UserError where the bundle holds no values."""
    height, width = block_shape(name.removeprefix(f"{NAME}:"))
    found, magnitude_bits = magnitudes(mask, values, bits)
    blocks, pruned, unified, shared, free = _count(found, min(height, mask.rows), min(width, mask.cols))
    return Stored(int(blocks), int(pruned), int(unified), int(shared), int(free), magnitude_bits)


def magnitudes(mask: PackedMask, values: Mapping[str, np.ndarray], bits: int) -> tuple[np.ndarray, int]:
    """(rows, cols) uint32, alike where magnitudes are, 0 of pruned weights; and the bits of one: without the sign, and
    of integers one more where the layer has any that need it."""
    if "codes" in values:
        sizes = np.abs(integers(coded(values, mask))).astype(np.uint32)
        return sizes, max(bits - 1, int(sizes.max()).bit_length())
    kind = next((kind for kind in FLOATS if kind in values), None)
    if kind is None:
        raise UserError("the bundle holds a mask without weights here, so that no two are known to be alike")
    floats = np.ascontiguousarray(values[kind])
    raw = floats.view(np.uint32) & 0x7FFFFFFF if floats.dtype == np.float32 else floats.view(np.uint16) & 0x7FFF
    return np.where(mask.to_dense(), raw, 0).astype(np.uint32), bits - 1


@njit(cache=True, nogil=True)
def _count(sizes, height, width):
    rows, cols = sizes.shape
    blocks = pruned = unified = unified_weights = free_weights = 0
    for top in range(0, rows, height):
        for left in range(0, cols, width):
            first, alike = sizes[top, left], True
            bottom, right = min(top + height, rows), min(left + width, cols)
            for r in range(top, bottom):
                for c in range(left, right):
                    alike = alike and sizes[r, c] == first
            weights = (bottom - top) * (right - left)
            blocks += 1
            if not alike:
                free_weights += weights
            elif first == 0:
                pruned += 1
            else:
                unified += 1
                unified_weights += weights
    return blocks, pruned, unified, unified_weights, free_weights
