"""A decoder as if it had been pruned, from shapes alone: kv groups and FFN neurons taken out by their share, matrices
under N:M or unstructured masks of which only the number of zeros is known. Which ones go plays no part."""

import math
from dataclasses import dataclass, replace

from workloads.decoder.dimensions import Block, Decoder, Mixture
from workloads.errors import NotForThisModel
from workloads.operations.gemm import BITMAP, Matrix
from workloads.patterns import NofM

MULTIPLE = 128  # of neurons, where it divides those that there are


@dataclass(frozen=True)
class Change:
    """`kv_share`, `ffn_share`: of kv groups (with their query heads) and of FFN neurons (of each expert too) that go
    from every block. `pattern`: N:M of what is left; or `zeros`, the share of its weights that an unstructured mask
    leaves out. `weight_bits` of these matrices, every `group_size` inputs with a scale; None: the model's."""

    kv_share: float = 0
    ffn_share: float = 0
    pattern: NofM | None = None
    zeros: float = 0
    weight_bits: int | None = None
    group_size: int | None = None


def treated(decoder: Decoder, change: Change) -> Decoder:
    """Head, routers, norms and embeddings stay. Raises NotForThisModel for attention over latents that should lose kv
    groups, and for inputs that the runs of a pattern do not divide."""
    made: dict[Block, Block] = {}
    for number, block in zip(decoder.numbers, decoder.blocks, strict=True):
        if block not in made:
            made[block] = _masked(_smaller(block, change, f"block {number}"), change, f"block {number}")
    return replace(decoder, blocks=tuple(made[block] for block in decoder.blocks))


def left(units: int, share: float, multiple: int) -> int:
    """Units that stay where `share` of them should go: to the nearest multiple, upwards from the middle (methods 6.3),
    and never none."""
    return max(multiple * math.floor(units * (1 - share) / multiple + 0.5), multiple)


def _smaller(block: Block, change: Change, where: str) -> Block:
    attention = block.attention
    if change.kv_share and attention.latent is not None:
        raise NotForThisModel(f"{where}: heads read one latent together, so there are no kv groups to take out")
    kv_heads = left(attention.kv_heads, change.kv_share, 1) if change.kv_share else attention.kv_heads
    heads = attention.heads * kv_heads // attention.kv_heads
    matrices = tuple(
        _of_attention(matrix, block, heads, kv_heads) or _of_ffn(matrix, change.ffn_share) for matrix in block.matrices
    )
    mixture = block.mixture and _experts(block.mixture, change.ffn_share)
    return replace(
        block, attention=replace(attention, heads=heads, kv_heads=kv_heads), matrices=matrices, mixture=mixture
    )


def _of_attention(matrix: Matrix, block: Block, heads: int, kv_heads: int) -> Matrix | None:
    """None for a matrix that is none of its."""
    before = block.attention
    if matrix.role == "o":
        return replace(matrix, in_features=matrix.in_features // before.heads * heads)
    old = {"q": before.heads, "k": before.kv_heads, "v": before.kv_heads, "qkv": before.heads + 2 * before.kv_heads}
    new = {"q": heads, "k": kv_heads, "v": kv_heads, "qkv": heads + 2 * kv_heads}
    if matrix.role not in old:
        return None
    return replace(matrix, out_features=matrix.out_features // old[matrix.role] * new[matrix.role])


def _of_ffn(matrix: Matrix, share: float) -> Matrix:
    role = matrix.role.removeprefix("shared_").removeprefix("expert_")
    if not share:
        return matrix
    if role in ("down", "fc2"):
        return replace(matrix, in_features=_neurons(matrix.in_features, share))
    if role == "gate_up":
        return replace(matrix, out_features=2 * _neurons(matrix.out_features // 2, share))
    if role in ("gate", "up", "fc1"):
        return replace(matrix, out_features=_neurons(matrix.out_features, share))
    return matrix


def _neurons(count: int, share: float) -> int:
    return left(count, share, math.gcd(count, MULTIPLE))


def _experts(mixture: Mixture, share: float) -> Mixture:
    kinds = tuple(
        (tuple(_of_ffn(up, share) for up in ups), _of_ffn(down, share), number) for ups, down, number in mixture.kinds
    )
    return replace(mixture, kinds=kinds)


def _masked(block: Block, change: Change, where: str) -> Block:
    if change.pattern is None and not change.zeros and change.weight_bits is None:
        return block

    def masked(matrix: Matrix) -> Matrix:
        if change.weight_bits is not None:
            matrix = replace(matrix, weight_bits=change.weight_bits, group_size=change.group_size)
        if change.pattern is None and not change.zeros:
            return matrix
        if change.pattern is None:
            return replace(matrix, stored=BITMAP, nnz=matrix.n_weights * (1 - change.zeros))
        if matrix.in_features % change.pattern.m:
            raise NotForThisModel(
                f"{where}: {change.pattern} does not divide the {matrix.in_features} inputs of {matrix.role}"
            )
        return replace(matrix, stored=str(change.pattern))

    mixture = block.mixture
    if mixture is not None:
        kinds = tuple((tuple(map(masked, ups)), masked(down), number) for ups, down, number in mixture.kinds)
        mixture = replace(mixture, kinds=kinds)
    return replace(block, matrices=tuple(map(masked, block.matrices)), mixture=mixture)
