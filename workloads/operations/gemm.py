"""Matrix products of a decoder: weight matrices as they are stored, and the GEMMs that read them."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from workloads.counts import SCALE_BITS, Counts, Elements
from workloads.factors import Factors
from workloads.operations.base import DecoderOperation
from workloads.patterns import DENSE, parse_pattern
from workloads.phases import Phase

BITMAP = "bitmap"
Over = Literal["new", "last", "context"]


@dataclass(frozen=True)
class Matrix:
    """Weights (out_features, in_features) of a role. `stored` is how they lie in memory: dense (zeros too), N:M (N of M
    inputs and their places, whatever is zero among them) or bitmap (the `nnz` that are kept, and a bit for each place).
    `weight_bits` None: those of the model (Elements); `is_float`: of a kind that no method quantizes. Where a machine
    looks at masks, `mask` says which (decoder/bundled.py), and where it stores weights in its own way, `own_bytes`
    without biases. `factors`: those that it is the product of, and that lie in memory and run in its place."""

    role: str
    out_features: int
    in_features: int
    has_bias: bool = False
    stored: str = DENSE
    nnz: float | None = None
    weight_bits: int | None = None
    group_size: int | None = None
    is_float: bool = False
    mask: str = ""
    own_bytes: float | None = None
    factors: Factors | None = None

    @property
    def n_weights(self) -> int:
        return self.out_features * self.in_features if self.factors is None else self.factors.n_weights

    @property
    def parts(self) -> list[tuple[str, int, "Matrix"]]:
        """What runs in the place of a product, in order: its name, how many blocks, a block; [] of others. Biases are
        the last one's."""
        if self.factors is None:
            return []
        return [
            (name, blocks, replace(self, out_features=rows, in_features=cols, has_bias=has_bias, factors=None))
            for name, (blocks, rows, cols), has_bias in (
                ("first", self.factors.first, False), ("second", self.factors.second, self.has_bias),
            )
        ]  # fmt: skip

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.n_weights + self.out_features * self.has_bias

    def bits(self, elements: Elements) -> int:
        """Of a weight."""
        if self.is_float:
            return elements.float_bits
        return self.weight_bits or elements.weight_bits

    def stored_bytes(self, elements: Elements) -> float:
        """Of weights, what says where they are, scales, zero points and biases, as in docs/formats.md for a matrix that
        is compressed whole."""
        bits, biases = self.bits(elements), self.out_features * self.has_bias * elements.float_bits
        if self.own_bytes is not None:
            return self.own_bytes + biases / 8
        if self.factors is not None:
            return sum(blocks * part.stored_bytes(elements) for _, blocks, part in self.parts)
        if self.stored == DENSE:
            kept, places = float(self.n_weights), 0
        elif self.stored == BITMAP:
            kept, places = self.nnz if self.nnz is not None else self.n_weights, self.n_weights
        else:
            pattern = parse_pattern(self.stored)
            assert pattern is not None
            kept = self.out_features * -(-self.in_features // pattern.m) * pattern.n
            places = kept * max(1, math.ceil(math.log2(pattern.m)))
        total = kept * bits + places
        if bits < elements.float_bits:
            own = self.group_size if self.weight_bits else elements.group_size
            groups = -(-self.in_features // own) if own else 1
            total += self.out_features * groups * (SCALE_BITS + bits)
        return (total + biases) / 8


@dataclass(frozen=True)
class Gemm(DecoderOperation):
    """y = x W^T, W the matrices one below the other: they read the same x, and all lie in memory alike.

    `over`: the tokens that pass, all new ones, the last of each sequence, or in prefill the past ones too, whose inputs
    are the KV cache's. FLOP are those of the dense product, 2 tokens out in, also where zeros are left out."""

    matrices: tuple[Matrix, ...]
    over: Over = "new"

    @property
    def out_features(self) -> int:
        return sum(matrix.out_features for matrix in self.matrices)

    @property
    def in_features(self) -> int:
        return self.matrices[0].in_features

    @property
    def sees_context(self) -> bool:
        return self.over == "context"

    def tokens(self, phase: Phase) -> int:
        if self.over == "last":
            return phase.batch
        return phase.batch * phase.context if self.over == "context" and phase.name == "prefill" else phase.tokens

    def counts(self, phase: Phase, elements: Elements) -> Counts:
        tokens = self.tokens(phase)
        values = min(tokens, phase.tokens) * self.in_features + tokens * self.out_features
        return Counts(
            flop=2 * tokens * self.out_features * self.in_features,
            bytes_weight=sum(matrix.stored_bytes(elements) for matrix in self.matrices),
            bytes_act=values * elements.activation_bits / 8,
        )
