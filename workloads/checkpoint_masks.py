"""Masks from checkpoints whose weights hold zeros, read one parameter at a time (needs torch)."""

from collections.abc import Iterator
from pathlib import Path

import torch

from workloads.checkpoint import Checkpoint
from workloads.compressed import decompressed
from workloads.discovery import block_linears
from workloads.errors import UserError
from workloads.importers import block_of, natural
from workloads.layers import Layer
from workloads.mask import PackedMask
from workloads.roles import role_of
from workloads.weight_files import weight_files
from workloads.weights import open_weights


def read_checkpoint_masks(folder: Path) -> Iterator[tuple[Layer, PackedMask]]:
    """Kept = not zero, for every prunable matrix of a Hugging Face folder.

    Without a config.json every 2-D "*.weight" with a known role inside a numbered block is taken, as stored.
    Raises UserError for NaN or Inf weights (naming the layer) and for folders without such matrices.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    found = _of_model(folder) if (folder / "config.json").is_file() else _of_files(folder)
    empty = True
    for layer, weight in found:
        empty = False
        bad = int((~torch.isfinite(weight.float() if weight.itemsize == 1 else weight)).sum())
        if bad:
            raise UserError(
                f"{folder}: {layer.name}: {bad} of {layer.n_weights} weights are NaN or Inf; repair the checkpoint"
            )
        yield layer, PackedMask.from_dense((weight != 0).numpy())
    if empty:
        raise UserError(f"{folder} holds no linear weights of decoder blocks; give a language model's folder")


def _of_model(folder: Path) -> Iterator[tuple[Layer, torch.Tensor]]:
    checkpoint = Checkpoint(folder)
    for number, block in enumerate(checkpoint.blocks):
        loaded = ""
        for ref in block_linears(block, f"{checkpoint.block_path}.{number}", number):
            parameter = f"{checkpoint.block_path}.{number}.{ref.module_path}.{ref.parameter}"
            if parameter != loaded:
                checkpoint.release(block)
                checkpoint.load([parameter])
                loaded = parameter
            matrix = ref.matrix(block)
            if matrix.is_meta:
                raise UserError(f"{folder}: the checkpoint lacks {parameter}")
            yield ref.layer, matrix
        checkpoint.release(block)


def _of_files(folder: Path) -> Iterator[tuple[Layer, torch.Tensor]]:
    weights = decompressed(open_weights(weight_files(folder)), folder)
    for key in sorted(weights.names(), key=natural):
        name = key.removesuffix(".weight")
        role, block = role_of(name), block_of(name)
        if name == key or role == "other" or block < 0:
            continue
        if len(weights.shape(key)) == 2:
            weight = weights.tensors([key])[key]
            yield Layer(name, role, block, *weight.shape), weight
