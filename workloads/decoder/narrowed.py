"""A block of a decoder with fewer kv groups or FFN neurons, from their counts alone."""

from dataclasses import replace

from workloads.decoder.dimensions import Block
from workloads.errors import NotForThisModel
from workloads.operations.gemm import Matrix

_HEADS = {"q": "out", "k": "out", "v": "out", "qkv": "out", "o": "in"}
_NEURONS = {"gate": "out", "up": "out", "gate_up": "out", "fc1": "out", "down": "in", "fc2": "in"}
FFN, ATTENTION = frozenset(_NEURONS), frozenset(_HEADS)


def neurons_of(block: Block) -> int:
    """0 where its FFN is none of single matrices (experts)."""
    output = block.matrix("down") or block.matrix("fc2")
    return output.in_features if output is not None and block.mixture is None else 0


def narrowed(block: Block, kv_groups: int | None = None, neurons: int | None = None) -> Block:
    """With so many kv groups, each with its queries, and neurons; None: all. Raises NotForThisModel for attention with
    latents, whose groups cannot go, and experts."""
    attention, matrices = block.attention, block.matrices
    if kv_groups is not None and kv_groups != attention.kv_heads:
        if attention.latent is not None:
            raise NotForThisModel("kv groups of attention with latents cannot go; leave `heads` out")
        matrices = _cut(matrices, _HEADS, kv_groups, attention.kv_heads)
        heads = attention.heads * kv_groups // attention.kv_heads
        attention = replace(attention, heads=heads, kv_heads=kv_groups)
    if neurons is not None and neurons != neurons_of(block):
        if not neurons_of(block):
            raise NotForThisModel("neurons of experts are not counted one by one; leave `neurons` out")
        matrices = _cut(matrices, _NEURONS, neurons, neurons_of(block))
    return replace(block, attention=attention, matrices=matrices)


def _cut(matrices: tuple[Matrix, ...], sides: dict[str, str], left: int, of: int) -> tuple[Matrix, ...]:
    def one(matrix: Matrix) -> Matrix:
        side = sides.get(matrix.role)
        if side == "out":
            return replace(matrix, out_features=matrix.out_features * left // of)
        return replace(matrix, in_features=matrix.in_features * left // of) if side else matrix

    return tuple(map(one, matrices))
