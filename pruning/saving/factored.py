"""A checkpoint with the factors of a bundle in the place of matrices: one of our own folders (checkpoints/smaller.py),
which `ps.load_pruned` and every verb that runs a model load, as products (checkpoints/factored.py). The product itself
is what pruning/saving/dense.py writes.

Shards are written, resumed and stamped as there."""

from functools import partial
from pathlib import Path

import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import LinearRef
from checkpoints.factored import tensors_of
from checkpoints.prunable import all_refs, parameter_name
from checkpoints.smaller import Smaller
from pruning.applied import check_masks
from pruning.bundle_values import read_factors
from pruning.forward.hidden_states import Progress
from pruning.saving.dense import block_shards, check_ordinary, check_target, save_shards, shard_tensors
from workloads.bundle import MaskBundle
from workloads.errors import NotForThisModel
from workloads.removal import Removal


def save_factored(source: Path, masks: MaskBundle, folder: Path, progress: Progress) -> None:
    """Raises UserError as `check_target`, and if the bundle is of another model; NotForThisModel for products of
    matrices that the model holds in pieces, in a stack of experts, or in several blocks."""
    check_target(folder, source)
    check_ordinary(source)
    checkpoint = Checkpoint(source)
    refs = all_refs(checkpoint)
    check_masks(refs, masks)
    factors = {entry.name: entry.factors for entry in masks.layers if entry.factors is not None}
    for ref in (ref for block in refs for ref in block if ref.layer.name in factors):
        check_alone(checkpoint, ref)
    stamp = {"format": "factored", "masks_sha256": masks.sha256, "weights_sha256": checkpoint.sha256()}
    shards = block_shards(checkpoint, refs, partial(block_tensors, checkpoint, masks))
    save_shards(checkpoint, shards, folder, stamp, progress, None, Smaller(Removal(), factors=factors))


def check_alone(checkpoint: Checkpoint, ref: LinearRef) -> None:
    name = parameter_name(ref)
    if ref.expert is not None or name in checkpoint.converted or name in checkpoint.shared.values():
        raise NotForThisModel(
            f"{checkpoint.folder}: {ref.layer.name} is one of a stack, lies in pieces, or is shared by blocks, so no "
            "factors can stand in its place; save it as `dense`"
        )


def block_tensors(
    checkpoint: Checkpoint, masks: MaskBundle, keys: list[str], refs: list[LinearRef]
) -> dict[str, torch.Tensor]:
    """Those of one block (or outside them): of the files, and of factors."""
    pairs = [(ref, read_factors(masks, ref.layer.name)) for ref in refs if ref.layer.name in masks]
    products = {checkpoint.sources[parameter_name(ref)][0]: pair for ref, pair in pairs if pair is not None}
    others = [ref for ref, pair in pairs if pair is None]
    tensors = shard_tensors(checkpoint, [key for key in keys if key not in products], others, masks)
    for key, pair in products.items():
        dtype = checkpoint.raw([key])[key].dtype
        made = tensors_of(pair, key.removesuffix("weight"))
        tensors |= {name: block.to(dtype) for name, block in made.items()}
    return tensors
