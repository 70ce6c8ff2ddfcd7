"""The prunable matrices of a checkpoint, block by block."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from checkpoints.discovery import LinearRef
from checkpoints.opened import OpenModel
from workloads.layers import Layer
from workloads.removal import Removal


def all_refs(checkpoint: OpenModel) -> list[list[LinearRef]]:
    """The prunable matrices of every block, one that several blocks share only in the first, in the sizes that what was
    taken out leaves; none of blocks that are gone."""
    return refs_left(checkpoint, checkpoint.removal)


def refs_left(checkpoint: OpenModel, removal: Removal) -> list[list[LinearRef]]:
    """As `all_refs`, of what `removal` would leave; only before blocks are loaded without it."""
    blocks = []
    for block in checkpoint.found_refs():
        left = [(ref, removal.left(ref.layer)) for ref in block]
        blocks.append([replace(ref, layer=layer) for ref, layer in left if layer is not None])
    return blocks


def shared_refs(checkpoint: OpenModel, number: int) -> list[LinearRef]:
    """The matrices of a block that an earlier one owns, under the names they have there."""
    path, found = checkpoint.block_paths[number], []
    for ref in checkpoint.block_refs(number):
        owner = checkpoint.shared.get(f"{path}.{ref.module_path}.{ref.parameter}")
        if owner is not None:
            name = owner if ref.expert is not None else owner.rpartition(".")[0]
            name += "" if ref.expert is None else f".{ref.expert}"
            found.append(replace(ref, layer=replace(ref.layer, name=name)))
    return found


def block_weights(checkpoint: OpenModel, refs: list[LinearRef], number: int) -> Iterator[tuple[Layer, torch.Tensor]]:
    """The (out, in) float32 matrices of one block, loaded and released."""
    block = checkpoint.load_block(number)
    for ref in refs:
        yield ref.layer, ref.matrix(block).float()
    checkpoint.release(block)


def parameter_name(ref: LinearRef) -> str:
    """The full name of the parameter a reference points into."""
    return f"{ref.layer.name}.{ref.parameter}" if ref.expert is None else ref.layer.name.rpartition(".")[0]
