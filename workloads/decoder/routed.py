"""A decoder whose router was watched: tokens that each expert of each block was seen to get."""

from dataclasses import replace

from workloads.decoder.dimensions import Block, Decoder
from workloads.errors import UserError
from workloads.experts import of_counts
from workloads.routing import Routing


def has_experts(decoder: Decoder) -> bool:
    return any(block.mixture is not None for block, _ in decoder.kinds)


def routed(decoder: Decoder, routing: Routing) -> Decoder:
    """With counts of a routing that has some, itself else; experts are then not grouped yet (workloads/decoder/
    bundled.py comes behind). Raises UserError for counts that do not fit the blocks, and blocks without experts."""
    if not routing.counts:
        return decoder
    experts = {number: block.mixture for number, block in zip(decoder.numbers, decoder.blocks, strict=True)}
    for name in routing.counts:
        if name and experts.get(int(name)) is None:
            there = [number for number, mixture in experts.items() if mixture is not None]
            raise UserError(
                f"`routing`: counts for block {name}, which has no experts; blocks {there[0]} to {there[-1]} have some"
                if there
                else f"`routing`: counts for block {name}, and the model has no experts"
            )
    blocks: list[Block] = []
    for number, block in zip(decoder.numbers, decoder.blocks, strict=True):
        if block.mixture is not None:
            counts = tuple(float(count) for count in routing.of_block(number, block.mixture.experts))
            of_counts(counts, counts.index(max(counts)), block.mixture.experts, 1)  # the one that may have too many
            block = replace(block, mixture=replace(block.mixture, counts=counts))
        blocks.append(blocks[-1] if blocks and blocks[-1] == block else block)
    return replace(decoder, blocks=tuple(blocks))
