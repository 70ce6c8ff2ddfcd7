"""What a cycle model says of one layer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simulator.actions import Actions
from simulator.engine import Stream
from workloads.refusals import Refusal


class Infeasible(Exception):
    """The machine cannot run the layer; `refusal` says why."""

    def __init__(self, refusal: Refusal):
        super().__init__(refusal)
        self.refusal = refusal


@dataclass(frozen=True)
class LayerCycles:
    """Cycles and DRAM bytes of one execution of one layer; cycles = compute_cycles + stall_cycles.

    `ideal_cycles` is kept MACs / all MAC units (of nonzero inputs, where activations are sparse). `transfer_cycles` is
    how long the DRAM port is busy; it overlaps with computing, so it is no part of the sum. `buffer_cycles` are the
    stalls behind on-chip buffers, a part of stall_cycles. `mapping` says in words how the machine was set up. `actions`
    and `stream` are None at level "paper". `extra` are columns of the design's own (Accelerator.columns).
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
    scale_bytes: int = 0
    buffer_cycles: int = 0
    actions: Actions | None = None
    stream: Stream | None = field(default=None, compare=False, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cycles(self) -> int:
        return self.compute_cycles + self.stall_cycles

    @property
    def total_bytes(self) -> int:
        return self.weight_bytes + self.metadata_bytes + self.scale_bytes + self.activation_bytes + self.output_bytes

    @property
    def imbalance_cycles(self) -> float:
        """Compute cycles beyond the ideal: uneven lanes, rounding, zeros that are computed. Negative only where a
        published formula counts less work than there is."""
        return self.compute_cycles - self.ideal_cycles

    @property
    def bound(self) -> str:
        """The largest part of the cycles: compute (useful work), imbalance, buffer or memory."""
        parts = {
            "compute": self.ideal_cycles,
            "imbalance": self.imbalance_cycles,
            "memory": self.stall_cycles - self.buffer_cycles,
            "buffer": self.buffer_cycles,
        }
        return max(parts, key=lambda part: parts[part])


@dataclass(frozen=True)
class Outcome:
    """One layer on one target: with its mask, and unpruned on the same machine with the same tokens.

    `unpruned` is None where the machine's buffers hold the layer only compressed; `dense_refusal` then says so.
    """

    sparse: LayerCycles
    unpruned: LayerCycles | None
    published_dense_cycles: int | None = None
    weight_bits: int | None = None  # what a stored weight value takes here, where that matters
    dense_refusal: Refusal | None = None

    @property
    def dense(self) -> LayerCycles:
        """The unpruned layer. Raises Infeasible where there is none."""
        if self.unpruned is None:
            assert self.dense_refusal
            raise Infeasible(self.dense_refusal)
        return self.unpruned

    @property
    def no_baseline(self) -> str:
        """Why there is no unpruned layer; "" where there is one."""
        return f"no dense baseline, it does not fit: {self.dense_refusal}" if self.dense_refusal else ""


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)
