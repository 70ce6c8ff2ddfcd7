"""A packed checkpoint (pruning/saving/packed.py) of a model that structured pruning made smaller: the codes have the
sizes that are left, blocks are numbered anew, and a config of the family says both. Where none does, nothing would load
it, so it is refused."""

from functools import partial
from pathlib import Path

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import LinearRef, find_refs
from pruning.applied import refs_of
from pruning.forward.hidden_states import Progress
from pruning.saving.dense import Shard, block_keys, check_ordinary, check_target, save_shards
from pruning.saving.packed import (
    Packing,
    ignored,
    packed_tensors,
    plan_packing,
    quantization_config,
    require_library,
    stored_matrices,
)
from pruning.saving.smaller import Form, Tensors, block_tensors, choose_form, new_number, renumbered
from workloads.bundle import MaskBundle
from workloads.errors import UserError


def save_packed_smaller(source: Path, masks: MaskBundle, folder: Path, progress: Progress) -> None:
    """Writes what `masks` leaves of the model of `source`, its codes packed. Raises UserError as `save_packed`, and as
    `packable_form`."""
    require_library()
    check_target(folder, source)
    check_ordinary(source)
    checkpoint = Checkpoint(source)
    packing = plan_packing(checkpoint, refs_of(checkpoint, masks), masks, progress)
    form = packable_form(checkpoint, masks)
    keys, refs = block_keys(checkpoint), find_refs(checkpoint.model)
    left = [number for number in range(len(refs)) if number not in form.removal.blocks]
    shards: list[Shard] = [partial(packed_block, checkpoint, keys[n], refs[n], form, packing, n) for n in left]
    shards.append(partial(checkpoint.raw, keys[-1]))
    config = {
        **(form.plain.settings or {}),
        "quantization_config": quantization_config(packing.grid, ignored_left(checkpoint, packing, form)),
    }
    stamp = {"format": "pack-quantized", "masks_sha256": masks.sha256, "weights_sha256": checkpoint.sha256()}
    save_shards(checkpoint, shards, folder, stamp, progress, config)


def packable_form(checkpoint: Checkpoint, masks: MaskBundle) -> Form:
    """Raises UserError where no config of the family says the sizes that are left."""
    form = choose_form(checkpoint, masks, padded=False)
    if form.plain.settings is None:
        raise UserError(
            f"{masks.folder}: what is left of this model cannot be packed ({form.plain.why}); save it as `dense`, for "
            "ps.load_pruned"
        )
    return form


def packed_block(
    checkpoint: Checkpoint, keys: list[str], refs: list[LinearRef], form: Form, packing: Packing, number: int
) -> Tensors:
    """The tensors of one block, by their keys in the new files."""
    tensors, path = block_tensors(checkpoint, keys, refs, form, number), checkpoint.block_paths[number]
    quantized = stored_matrices(
        checkpoint, [ref for ref in refs if ref.layer.name in packing.names], form.masks, packing
    )
    for key, matrix in quantized.items():
        new = renumbered(checkpoint, key, path, new_number(form.removal, number))
        del tensors[new]
        tensors |= {new.removesuffix("weight") + kind: tensor for kind, tensor in packed_tensors(matrix).items()}
    return tensors


def ignored_left(checkpoint: Checkpoint, packing: Packing, form: Form) -> list[str]:
    """The modules that keep a `weight` matrix, as the new files call them."""
    names = ignored(checkpoint, packing.names)
    for number, path in reversed(list(enumerate(checkpoint.block_paths))):
        own = [name for name in names if f"{name}.".startswith(f"{path}.")]
        names = [name for name in names if name not in own]
        if number not in form.removal.blocks:
            names += [renumbered(checkpoint, name, path, new_number(form.removal, number)) for name in own]
    return names
