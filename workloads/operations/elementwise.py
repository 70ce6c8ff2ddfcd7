"""What a decoder computes element by element: norms, residual additions, activations."""

from dataclasses import dataclass

from workloads.counts import Counts, Elements
from workloads.operations.base import DecoderOperation
from workloads.phases import Phase

# FLOP an element. A norm: squares, their sum, division, gain; of layer norm also the mean, its subtraction and the
# bias.
NORM_FLOP = {"rms": 4, "layer": 7}
ACTIVATION_FLOP = {"relu": 1, "gelu": 4, "silu": 4}


@dataclass(frozen=True)
class Norm(DecoderOperation):
    """RMS norm or layer norm of `width` elements a token, in `groups` of their own. `parameters` are its gains and
    biases. `adds`: the residual is added in the same kernel, which reads both and writes the sum and its norm."""

    width: int
    kind: str = "rms"
    parameters: int = 0
    adds: bool = False
    groups: int = 1

    def counts(self, phase: Phase, elements: Elements) -> Counts:
        values = phase.tokens * self.width * self.groups
        return Counts(
            flop=(NORM_FLOP[self.kind] + self.adds) * values,
            bytes_weight=self.parameters * elements.float_bits / 8,
            bytes_act=(4 if self.adds else 2) * values * elements.activation_bits / 8,
        )


@dataclass(frozen=True)
class ResidualAdd(DecoderOperation):
    """Two streams of `width` a token are read, their sum is written."""

    width: int

    def counts(self, phase: Phase, elements: Elements) -> Counts:
        values = phase.tokens * self.width
        return Counts(flop=values, bytes_act=3 * values * elements.activation_bits / 8)


@dataclass(frozen=True)
class Activation(DecoderOperation):
    """f(x), or f(gate) * up where it `is_gated`, of `width` outputs a token: `kind` is silu, gelu or relu."""

    width: int
    kind: str = "silu"
    is_gated: bool = True

    def counts(self, phase: Phase, elements: Elements) -> Counts:
        values = phase.tokens * self.width
        return Counts(
            flop=(ACTIVATION_FLOP[self.kind] + self.is_gated) * values,
            bytes_act=(3 if self.is_gated else 2) * values * elements.activation_bits / 8,
        )
