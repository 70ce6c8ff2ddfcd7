"""What one layer asks of a machine, beside the statistics of its mask."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """A linear y = x W^T: W (rows, cols) with `nnz` kept weights, x of `tokens` tokens.

    weight_bits: of stored values, None where the bundle keeps floats; group_size: inputs that share a scale, None: a
    row does.
    left_dense: pruning left the layer alone, so that it runs as its own baseline, whatever its statistics (none, where
    a model reads weight values).
    activation_density: share of nonzero inputs, 0..1, at random places; only dual-sparse designs gain from it.
    """

    rows: int
    cols: int
    nnz: int
    tokens: int
    weight_bits: int | None = None
    group_size: int | None = None
    activation_density: float = 1.0
    left_dense: bool = False

    def width(self, machine_bits: int) -> int:
        """Bits a stored weight takes on a machine of `machine_bits` weights."""
        return min(self.weight_bits or machine_bits, machine_bits)
