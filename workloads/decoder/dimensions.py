"""A decoder in the numbers that its FLOP, bytes and memory follow from."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from workloads.experts import Experts
from workloads.operations.gemm import Matrix

# Where norms stand: before attention and FFN (pre), behind each, before its residual is added (post), both (sandwich),
# behind the addition (after_add); or before both, which then run beside each other (parallel).
Layout = Literal["pre", "post", "sandwich", "after_add", "parallel"]
Positions = Literal["rotary", "learned", "alibi"]
QkNorm = Literal["", "head", "heads", "whole"]


@dataclass(frozen=True)
class Norms:
    """`kind` as in workloads/operations/elementwise.py; `gain` and `bias`: whether it has them. `count` of a parallel
    layout: 1 for attention and FFN alike, or 2."""

    kind: Literal["rms", "layer"] = "rms"
    gain: bool = True
    bias: bool = False
    layout: Layout = "pre"
    count: int = 2

    def parameters(self, width: int) -> int:
        return width * (self.gain + self.bias)


@dataclass(frozen=True)
class Latent:
    """Multi-head latent attention: sizes of a latent, of a head's part without positions and of the rotated part."""

    size: int
    nope_size: int
    rope_size: int
    query_size: int | None = None  # of the latent that queries come from; None: from the hidden state


@dataclass(frozen=True)
class SelfAttention:
    """`window` None: all keys are seen. `rotary_size`: elements of a head that are turned, 0: none. `qk_norm`: queries
    and keys are normed head by head, with one gain (head) or a gain a head (heads), or whole; "" not at all. `sinks`:
    heads have a learned score more."""

    heads: int
    kv_heads: int
    head_size: int
    value_size: int
    window: int | None = None
    rotary_size: int = 0
    qk_norm: QkNorm = ""
    sinks: bool = False
    latent: Latent | None = None

    @property
    def cached_size(self) -> int:
        """Elements a token in the KV cache."""
        if self.latent is not None:
            return self.latent.size + self.latent.rope_size
        return self.kv_heads * (self.head_size + self.value_size)

    @property
    def norm_parameters(self) -> int:
        """Gains of queries' and keys' norms, and of latents'."""
        if self.latent is not None:
            return self.latent.size + (self.latent.query_size or 0)
        each = {"": 0, "head": 2, "heads": self.heads + self.kv_heads, "whole": self.heads + self.kv_heads}
        return each[self.qk_norm] * self.head_size


@dataclass(frozen=True)
class Ffn:
    """`kind` of activation: silu, gelu or relu; gated: f(gate) * up."""

    kind: str = "silu"
    is_gated: bool = True


@dataclass(frozen=True)
class Mixture:
    """Experts of a block, `kinds` of them: matrices that read the hidden state, the one that writes it, and how many
    are alike; the router's matrix, and the one that weighs shared experts, None: they are not weighed. `counts`: tokens
    that each expert was seen to get, () unknown; several kinds are then one an expert, in order."""

    experts: Experts
    kinds: tuple[tuple[tuple[Matrix, ...], Matrix, int], ...]
    router: Matrix
    shared_gate: Matrix | None = None
    counts: tuple[float, ...] = ()

    @property
    def stored(self) -> list[tuple[Matrix, int]]:
        """Every matrix, and how many are like it."""
        gates = [self.router, *([self.shared_gate] if self.shared_gate else [])]
        experts = [(matrix, number) for ups, down, number in self.kinds for matrix in (*ups, down)]
        return [*experts, *((gate, 1) for gate in gates)]


@dataclass(frozen=True)
class Block:
    """`matrices` by their roles, without routed experts; blocks that do the same are equal. Of a part that was
    taken out nothing runs: `has_attention`, `has_ffn` (experts too)."""

    attention: SelfAttention
    ffn: Ffn
    norms: Norms
    matrices: tuple[Matrix, ...]
    mixture: Mixture | None = None
    has_attention: bool = True
    has_ffn: bool = True

    @property
    def cached_size(self) -> int:
        """Elements a token in the KV cache."""
        return self.attention.cached_size if self.has_attention else 0

    @property
    def stored(self) -> list[tuple[Matrix, int]]:
        """Every matrix, routed experts' too, and how many are like it."""
        return [*((matrix, 1) for matrix in self.matrices), *(self.mixture.stored if self.mixture else [])]

    def matrix(self, role: str) -> Matrix | None:
        return next((matrix for matrix in self.matrices if matrix.role == role), None)


@dataclass(frozen=True)
class Decoder:
    """`blocks` that are there, those that were taken out are not; `numbers` are theirs in the model. `embedding_size`
    is the width of the tables, where it is not the hidden size matrices stand between. `positions_rows` of
    `positions_size`: a learned table. Of one of `ranks` GPUs that share a model (workloads/decoder/split.py) sizes are
    its own."""

    family: str
    hidden_size: int
    vocab_size: int
    blocks: tuple[Block, ...]
    numbers: tuple[int, ...]
    norms: Norms
    is_tied: bool
    embedding_size: int
    head: Matrix
    positions: Positions = "rotary"
    positions_rows: int = 0
    positions_size: int = 0
    has_embedding_norm: bool = False
    has_final_norm: bool = True
    projections: tuple[Matrix, ...] = ()  # into the hidden state, and out of it
    ranks: int = 1

    @cached_property
    def kinds(self) -> tuple[tuple[Block, int], ...]:
        """Blocks that differ, in order, and how many are alike."""
        return tuple(Counter(self.blocks).items())

    @cached_property
    def memo(self) -> dict[Any, Any]:
        """What was derived from it, kept while it lives."""
        return {}

    @property
    def block_parameters(self) -> int:
        """Of all blocks: matrices, biases, norms, experts."""
        return sum(number * self.parameters_of(block) for block, number in self.kinds)

    @property
    def embedding_parameters(self) -> int:
        """Of the table of tokens, and that of positions."""
        return self.vocab_size * self.embedding_size + self.positions_rows * self.positions_size

    @property
    def head_parameters(self) -> int:
        """Of its own: none where it is the table of tokens."""
        return self.head.parameters - (self.head.n_weights if self.is_tied else 0)

    @property
    def parameters(self) -> int:
        extra = sum(matrix.parameters for matrix in self.projections)
        norms = self.norms.parameters(self.hidden_size) * (self.has_embedding_norm + self.has_final_norm)
        return self.block_parameters + self.embedding_parameters + self.head_parameters + norms + extra

    def parameters_of(self, block: Block) -> int:
        return sum(number * matrix.parameters for matrix, number in block.stored) + self.small_parameters(block)

    def small_parameters(self, block: Block) -> int:
        """Of a block, those in no matrix: norms and sinks."""
        norms = {"sandwich": 4, "parallel": block.norms.count}.get(block.norms.layout, 2)
        own = block.attention.norm_parameters + block.attention.sinks * block.attention.heads
        return norms * block.norms.parameters(self.hidden_size) + own
