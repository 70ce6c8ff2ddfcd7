"""What a decoder does outside its blocks and between GPUs: looking tokens up, and summing parts of sums."""

from dataclasses import dataclass

from workloads.counts import Counts, Elements
from workloads.operations.base import DecoderOperation
from workloads.phases import Phase


@dataclass(frozen=True)
class Embedding(DecoderOperation):
    """A row of a table of `width` for each token is read and written; `rows` are those that this GPU has. The head is a
    GEMM of its own, also where it is the same table."""

    rows: int
    width: int

    def counts(self, phase: Phase, elements: Elements) -> Counts:
        values = phase.tokens * self.width
        return Counts(bytes_weight=values * elements.float_bits / 8, bytes_act=values * elements.activation_bits / 8)


@dataclass(frozen=True)
class AllReduce(DecoderOperation):
    """The GPUs that share a model sum their parts of `width` elements a token; `ranks` is how many they are."""

    width: int
    ranks: int

    def counts(self, phase: Phase, elements: Elements) -> Counts:
        return Counts(bytes_link=phase.tokens * self.width * elements.activation_bits / 8)
