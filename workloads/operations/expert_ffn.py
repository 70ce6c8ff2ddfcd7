"""The FFNs of a mixture of experts, all that a step visits together, and the sum of what they give."""

from dataclasses import dataclass

from workloads.counts import Counts, Elements
from workloads.experts import Experts, hit_experts
from workloads.operations.base import DecoderOperation
from workloads.operations.elementwise import Activation
from workloads.operations.gemm import Gemm, Matrix
from workloads.phases import Phase, prefill


@dataclass(frozen=True)
class ExpertFfn(DecoderOperation):
    """Every token visits `experts.per_token` of `experts.count` FFNs. `kinds` are the different ones with their
    numbers: matrices that read the hidden state, those that write it, how many are such. Weights of the experts that
    are hit move (workloads/experts.py, `Elements.routing`); each visit is a token of an FFN."""

    experts: Experts
    kinds: tuple[tuple[tuple[Matrix, ...], Matrix, int], ...]
    activation: str = "silu"
    is_gated: bool = True

    def hit(self, phase: Phase, elements: Elements) -> float:
        """Different experts that a step visits."""
        return hit_experts(self.experts, phase.tokens, elements.routing)

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
        visits = phase.tokens * self.experts.per_token
        hit = self.hit(phase, elements)
        one_token = prefill(1, 1)
        each = Counts()
        for ups, down, number in self.kinds:
            width = down.in_features
            parts: tuple[DecoderOperation, ...] = (
                Gemm("", "", -1, ups),
                Activation("", "", -1, width, self.activation, self.is_gated),
                Gemm("", "", -1, (down,)),
            )
            for part in parts:
                each += part.counts(one_token, elements) * (number / self.experts.count)
        return Counts(each.flop * visits, each.bytes_weight * hit, each.bytes_act * visits)


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
