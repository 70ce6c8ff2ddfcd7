"""The prunable matrices of a checkpoint, block by block."""

from collections.abc import Iterator

import torch

from workloads.checkpoint import Checkpoint
from workloads.discovery import LinearRef, block_linears
from workloads.layers import Layer


def all_refs(checkpoint: Checkpoint) -> list[list[LinearRef]]:
    """The prunable matrices of every block."""
    return [block_linears(block, f"{checkpoint.block_path}.{n}", n) for n, block in enumerate(checkpoint.blocks)]


def block_weights(checkpoint: Checkpoint, refs: list[LinearRef], number: int) -> Iterator[tuple[Layer, torch.Tensor]]:
    """The (out, in) float32 matrices of one block, loaded and released."""
    block = checkpoint.load_block(number)
    for ref in refs:
        yield ref.layer, ref.matrix(block).float()
    checkpoint.release(block)


def parameter_name(ref: LinearRef) -> str:
    """The full name of the parameter a reference points into."""
    return f"{ref.layer.name}.{ref.parameter}" if ref.expert is None else ref.layer.name.rpartition(".")[0]
