"""A decoder with its matrices stored in another way."""

from collections.abc import Callable
from dataclasses import replace

from workloads.decoder.dimensions import Block, Decoder, Mixture
from workloads.operations.gemm import Matrix

Change = Callable[[Matrix], Matrix]


def with_matrices(decoder: Decoder, change: Change, of_experts: Change) -> Decoder:
    """Every matrix of a block changed, routed experts' by `of_experts`; routers, head and tables are left alone."""
    made: dict[Block, Block] = {}
    for block in decoder.blocks:
        if block not in made:
            mixture = _mixture(block.mixture, of_experts) if block.mixture else None
            made[block] = replace(block, matrices=tuple(map(change, block.matrices)), mixture=mixture)
    return replace(decoder, blocks=tuple(made[block] for block in decoder.blocks))


def _mixture(mixture: Mixture, change: Change) -> Mixture:
    kinds = tuple((tuple(map(change, ups)), change(down), count) for ups, down, count in mixture.kinds)
    return replace(mixture, kinds=kinds)
