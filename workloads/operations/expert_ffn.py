"""The FFNs of a mixture of experts, all that a step visits together, and the sum of what they give."""

from collections import Counter
from dataclasses import dataclass

from workloads.counts import Counts, Elements
from workloads.experts import Experts, hit_experts, of_counts
from workloads.operations.base import DecoderOperation
from workloads.operations.elementwise import Activation
from workloads.operations.gemm import Gemm, Matrix
from workloads.phases import Phase, prefill


@dataclass(frozen=True)
class Visited:
    """`number` experts alike, each hit in a share `hit` of the steps, by `tokens` then; `visits` a step on average."""

    ups: tuple[Matrix, ...]
    down: Matrix
    number: int
    hit: float
    tokens: float
    visits: float


@dataclass(frozen=True)
class ExpertFfn(DecoderOperation):
    """Every token visits `experts.per_token` of `experts.count` FFNs. `kinds` are the different ones with their
    numbers: matrices that read the hidden state, those that write it, how many are such. Weights of the experts that
    are hit move: by `Elements.routing`, or by `counts`, the tokens that each expert was seen to get, kinds then being
    one for all, or one an expert (workloads/experts.py); each visit is a token of an FFN."""

    experts: Experts
    kinds: tuple[tuple[tuple[Matrix, ...], Matrix, int], ...]
    activation: str = "silu"
    is_gated: bool = True
    counts_seen: tuple[float, ...] = ()

    def visited(self, tokens: int, routing: str) -> list[Visited]:
        """Of a step of so many tokens, experts that are alike together."""
        visits = tokens * self.experts.per_token
        if not self.counts_seen:
            each, hit = visits / self.experts.count, hit_experts(self.experts, tokens, routing) / self.experts.count
            return [Visited(*kind, hit, max(each / hit, 1.0), each) for kind in self.kinds]
        loads = [
            (of_counts(self.counts_seen, number, self.experts, tokens), visits * seen / sum(self.counts_seen))
            for number, seen in enumerate(self.counts_seen)
        ]
        if len(self.kinds) > 1:
            return [
                Visited(*kind, *load, each) for kind, (load, each) in zip(self.kinds, loads, strict=True) if load[0]
            ]
        (ups, down, _) = self.kinds[0]
        return [Visited(ups, down, number, *load, each) for (load, each), number in Counter(loads).items() if load[0]]

    def hit(self, phase: Phase, elements: Elements) -> float:
        """Different experts that a step visits."""
        return sum(one.number * one.hit for one in self.visited(phase.tokens, elements.routing))

    @property
    def ffn_size(self) -> float:
        """Mean over the experts."""
        return sum(down.in_features * number for _, down, number in self.kinds) / self.experts.count

    def stored_bytes(self, elements: Elements) -> float:
        """Of all experts."""
        return sum(
            number * sum(matrix.stored_bytes(elements) for matrix in (*ups, down)) for ups, down, number in self.kinds
        )

    def counts(self, phase: Phase, elements: Elements) -> Counts:
        found = Counts()
        for one in self.visited(phase.tokens, elements.routing):
            each = self._of_a_token(one, elements)
            visits, hit = one.number * one.visits, one.number * one.hit
            found += Counts(each.flop * visits, each.bytes_weight * hit, each.bytes_act * visits)
        return found

    def _of_a_token(self, one: Visited, elements: Elements) -> Counts:
        width = one.down.in_features
        parts: tuple[DecoderOperation, ...] = (
            Gemm("", "", -1, one.ups),
            Activation("", "", -1, width, self.activation, self.is_gated),
            Gemm("", "", -1, (one.down,)),
        )
        return sum((part.counts(prefill(1, 1), elements) for part in parts), Counts())


@dataclass(frozen=True)
class ExpertSum(DecoderOperation):
    """What `per_token` experts give a token is weighted and summed: as many vectors of `width` are read, one is
    written."""

    width: int
    per_token: int

    def counts(self, phase: Phase, elements: Elements) -> Counts:
        values = phase.tokens * self.width
        return Counts(
            flop=2 * self.per_token * values,
            bytes_act=(self.per_token + 1) * values * elements.activation_bits / 8,
        )
