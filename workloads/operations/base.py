"""What every operation has."""

from dataclasses import dataclass

from workloads.counts import Counts, Elements
from workloads.phases import Phase


@dataclass(frozen=True)
class Operation:
    """`name` tells it apart within its model; `block` is the decoder block's number, -1 outside of blocks."""

    name: str
    role: str
    block: int


@dataclass(frozen=True)
class DecoderOperation(Operation):
    """One that a phase alone gives its FLOP and bytes: sizes are its fields, those of one GPU where several share a
    model."""

    @property
    def sees_context(self) -> bool:
        """Whether it does more behind more tokens of the same sequences; of others only the new ones count."""
        return False

    def counts(self, phase: Phase, elements: Elements) -> Counts:
        raise NotImplementedError
