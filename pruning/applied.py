"""What a bundle makes of a checkpoint's blocks: without what it takes out, with its biases and weights, under its
masks."""

import torch
from torch import nn

from checkpoints.discovery import LinearRef
from checkpoints.opened import OpenModel
from checkpoints.prunable import parameter_name, refs_left, shared_refs
from pruning.bundle_values import read_biases, read_weight
from workloads.bundle import MaskBundle
from workloads.errors import UserError


def apply_bundle(checkpoint: OpenModel, masks: MaskBundle) -> None:
    """From here on blocks are loaded as the bundle leaves them; once a checkpoint, before its first block is loaded.
    Raises UserError if the bundle is of another model."""
    refs = refs_of(checkpoint, masks)
    refs = [[*block, *shared_refs(checkpoint, number)] for number, block in enumerate(refs)]

    def edit(number: int, block: nn.Module) -> None:
        apply_masks(checkpoint, block, refs[number], masks)

    checkpoint.take_out(masks.removal, read_biases(masks), edit)


def refs_of(checkpoint: OpenModel, masks: MaskBundle) -> list[list[LinearRef]]:
    """The prunable matrices of every block in the sizes that the bundle leaves. Raises UserError if it is of another
    model."""
    if masks.is_smaller:
        check_removal(checkpoint, masks)
    refs = refs_left(checkpoint, masks.removal)
    check_masks(refs, masks)
    return refs


def check_masks(refs: list[list[LinearRef]], masks: MaskBundle) -> None:
    known = {ref.layer.name: ref.layer.shape for block in refs for ref in block}
    for entry in masks.layers:
        if entry.name not in known:
            raise UserError(
                f"{masks.folder}: its layer {entry.name} is not in this model; were the masks made for another?"
            )
        if known[entry.name] != entry.layer.shape:
            if known[entry.name] == entry.unpruned.shape:
                raise UserError(
                    f"{masks.folder} took rows or columns out of {entry.name}, so its masks are not of the whole "
                    "model's sizes; `eval` with a text and `simulate` read it"
                )
            raise UserError(
                f"{masks.folder}: {entry.name}: the mask has shape {entry.layer.shape}, the weights "
                f"{known[entry.name]}; were the masks made for another model?"
            )


def check_removal(checkpoint: OpenModel, masks: MaskBundle) -> None:
    """Raises UserError unless what the bundle takes out is of this model."""
    known = {ref.layer.name: ref.layer.shape for block in checkpoint.found_refs() for ref in block}
    for entry in masks.entries:
        if known.get(entry.name) != entry.unpruned.shape:
            raise UserError(
                f"{masks.folder}: {entry.name} had shape {entry.unpruned.shape} before pruning, this model has "
                f"{known.get(entry.name, 'no such layer')}; was it made for another model?"
            )


def apply_masks(checkpoint: OpenModel, block: nn.Module, refs: list[LinearRef], masks: MaskBundle) -> None:
    """Makes a loaded block what the bundle says: its own weights under the masks, or the weights the bundle holds,
    rounded as a checkpoint stores them. Layers the bundle does not hold stay dense."""
    for ref in refs:
        if ref.layer.name in masks and not checkpoint.removal.has_sublayer_of(ref.layer.name):
            matrix = ref.matrix(block)
            weight = read_weight(masks, ref.layer.name)
            if weight is not None:
                matrix.copy_(weight.to(checkpoint.stored_dtype(parameter_name(ref))))
            keep = torch.from_numpy(masks[ref.layer.name].to_dense())
            matrix.masked_fill_(~keep.to(matrix.device), 0)
