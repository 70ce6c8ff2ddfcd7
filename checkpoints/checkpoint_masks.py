"""Masks from checkpoints whose weights hold zeros, read one parameter at a time (needs torch)."""

from collections.abc import Iterator
from pathlib import Path

import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import find_refs
from workloads.errors import UserError
from workloads.layers import Layer
from workloads.mask import PackedMask


def read_checkpoint_masks(folder: Path) -> Iterator[tuple[Layer, PackedMask]]:
    """Kept = not zero, for every prunable matrix of a Hugging Face folder.

    Raises UserError for NaN or Inf weights (naming the layer) and for folders without such matrices.
    """
    for layer, weight in _of_model(folder):
        bad = int((~torch.isfinite(weight.float() if weight.itemsize == 1 else weight)).sum())
        if bad:
            raise UserError(
                f"{folder}: {layer.name}: {bad} of {layer.n_weights} weights are NaN or Inf; repair the checkpoint"
            )
        yield layer, PackedMask.from_dense((weight != 0).numpy())


def _of_model(folder: Path) -> Iterator[tuple[Layer, torch.Tensor]]:
    checkpoint = Checkpoint(folder)
    for block, path, refs in zip(checkpoint.blocks, checkpoint.block_paths, find_refs(checkpoint.model), strict=True):
        loaded = ""
        for ref in refs:
            parameter = f"{path}.{ref.module_path}.{ref.parameter}"
            if parameter != loaded:
                checkpoint.release(block)
                checkpoint.load([parameter])
                loaded = parameter
            matrix = ref.matrix(block)
            if matrix.is_meta:
                raise UserError(f"{folder}: the checkpoint lacks {parameter}")
            yield ref.layer, matrix
        checkpoint.release(block)
