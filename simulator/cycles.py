"""What a cycle model says of one layer."""

from dataclasses import dataclass


class Infeasible(Exception):
    """The machine cannot run the layer; the message names the resource, the need, the bound and what would help."""


@dataclass(frozen=True)
class LayerCycles:
    """Cycles and DRAM bytes of one execution of one layer; cycles = compute_cycles + stall_cycles.

    `ideal_cycles` is kept MACs / all MAC units. `transfer_cycles` is how long the DRAM channel is busy; it overlaps
    with computing, so it is no part of the sum. `mapping` says in words how the machine was set up.
    """

    compute_cycles: int
    stall_cycles: int
    transfer_cycles: int
    ideal_cycles: float
    weight_bytes: int
    metadata_bytes: int
    activation_bytes: int
    output_bytes: int
    mapping: str

    @property
    def cycles(self) -> int:
        return self.compute_cycles + self.stall_cycles

    @property
    def total_bytes(self) -> int:
        return self.weight_bytes + self.metadata_bytes + self.activation_bytes + self.output_bytes

    @property
    def imbalance_cycles(self) -> float:
        """Compute cycles beyond the ideal: uneven lanes, rounding, zeros that are computed. Negative only where a
        published formula counts less work than there is."""
        return self.compute_cycles - self.ideal_cycles

    @property
    def bound(self) -> str:
        """The largest part of the cycles: compute (useful work), imbalance or memory."""
        parts = {"compute": self.ideal_cycles, "imbalance": self.imbalance_cycles, "memory": self.stall_cycles}
        return max(parts, key=lambda part: parts[part])


@dataclass(frozen=True)
class Outcome:
    """One layer on one target: with its mask, and unpruned on the same machine with the same tokens."""

    sparse: LayerCycles
    dense: LayerCycles
    published_dense_cycles: int | None = None
    weight_bits: int | None = None  # what a stored weight value takes here, where that matters


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)
