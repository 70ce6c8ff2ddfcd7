"""What one layer asks of a machine, beside the statistics of its mask."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Work:
    """A linear y = x W^T: W (rows, cols) with `nnz` kept weights, x of `tokens` tokens.

    weight_bits: of stored values, None where the bundle keeps floats; group_size: inputs that share a scale, None: a
    row does.
    left_dense: pruning left the layer alone, so that it runs as its own baseline, whatever its statistics (none, where
    a model reads weight values).
    activation_density: share of nonzero inputs, 0..1, at random places; only dual-sparse designs gain from it.
    distinct: share of the inputs that DRAM brings and buffers hold, (0, 1], where windows overlap and their halo is
    reused: the array reads an element for every window, DRAM once. That is exact for an input loaded whole; of tiles
    it is each one's share, as if a halo at its border were there already.
    """

    rows: int
    cols: int
    nnz: int
    tokens: int
    weight_bits: int | None = None
    group_size: int | None = None
    activation_density: float = 1.0
    left_dense: bool = False
    distinct: float = 1.0

    def held_bits(self, bits: int) -> float:
        """Of an input of `bits`, as DRAM brings it."""
        return bits * self.distinct

    def width(self, machine_bits: int) -> int:
        """Bits a stored weight takes on a machine of `machine_bits` weights."""
        return min(self.weight_bits or machine_bits, machine_bits)


def held_bytes(work: Work, values: np.ndarray, bits: int) -> np.ndarray:
    """int64, rounded up, of so many inputs of `bits` each, as DRAM brings them."""
    if work.distinct == 1:
        return -(-values * bits // 8)
    return np.ceil(values * work.held_bits(bits) / 8).astype(np.int64)
