"""A checkpoint of what structured pruning left: the original files' tensors without the rows and columns that went,
blocks numbered anew, masks, new weights and biases of the bundle in it.

Two folders can come out. Where a config of the family says the sizes (pruning/saving/plain.py), an ordinary one, which
`AutoModelForCausalLM.from_pretrained` loads. Elsewhere one of ours (checkpoints/smaller.py), which `ps.load_pruned` and
every verb that runs a model load; what is pruned of such a folder is one again. Padded, blocks are as wide as the
widest of them, or as before where no config says that width; what was taken out is zero there, so logits are equal and
the folder is ordinary.

Shards are written, resumed and stamped as in pruning/saving/dense.py.
"""

import re
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path

import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import LinearRef, find_refs
from checkpoints.prunable import parameter_name
from checkpoints.smaller import Smaller, further
from pruning.applied import check_removal
from pruning.bundle_values import read_biases
from pruning.forward.hidden_states import Progress
from pruning.saving.dense import (
    Shard,
    block_keys,
    check_ordinary,
    check_target,
    in_file_form,
    save_shards,
    shard_tensors,
)
from pruning.saving.plain import Plain, plain_form
from pruning.saving.widths import padded_removal
from workloads.bundle import MaskBundle
from workloads.errors import NotForThisModel, UserError
from workloads.removal import Removal

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Form:
    """What is written: `removal` is that of the folder, less than the bundle's where it is padded."""

    masks: MaskBundle
    removal: Removal
    biases: Tensors
    plain: Plain


def save_smaller(source: Path, masks: MaskBundle, folder: Path, progress: Progress, padded: bool = False) -> str:
    """Writes the model of `source` without what `masks` takes out; returns a line for people: what became of it.

    Raises UserError as `check_target`, if the bundle is of another model, and if no config can say what is to be
    padded; NotForThisModel for blocks that cannot be left out and weights in pieces that cannot be cut.
    """
    check_target(folder, source)
    checkpoint = Checkpoint(source)
    if padded or (checkpoint.smaller is not None and checkpoint.smaller.factors):
        check_ordinary(source)
    if checkpoint.shared:
        raise NotForThisModel(f"{source}: blocks share matrices, so none of them can be smaller alone")
    check_removal(checkpoint, masks)
    form = choose_form(checkpoint, masks, padded)
    words = "padded" if padded else "plain" if form.plain.settings is not None else "smaller"
    stamp = {"format": words, "masks_sha256": masks.sha256, "weights_sha256": checkpoint.sha256()}
    own = None
    if form.plain.settings is None:
        own = further(checkpoint.smaller, form.removal, biased(checkpoint, form.biases), checkpoint.block_paths)
    save_shards(checkpoint, smaller_shards(checkpoint, form), folder, stamp, progress, form.plain.settings, own)
    if own is not None:
        return f"a folder for ps.load_pruned, not for AutoModel ({form.plain.why})"
    return "a plain checkpoint, for AutoModel" + (", narrower blocks padded with zeros" if padded else "")


def choose_form(checkpoint: Checkpoint, masks: MaskBundle, padded: bool) -> Form:
    """Raises UserError where nothing that is padded has a config."""
    biases = read_biases(masks)
    added = biased(checkpoint, biases)
    if checkpoint.smaller is not None:
        return Form(masks, masks.removal, biases, Plain(None, why="the model was one already"))
    if not padded:
        return Form(masks, masks.removal, biases, plain_form(checkpoint, Smaller(masks.removal, added)))
    kinds = sorted({unit.kind for unit in masks.removal.units})
    why = ""
    for count in range(len(kinds) + 1):
        for whole in combinations(kinds, count):
            removal = padded_removal(checkpoint, masks.removal, frozenset(whole))
            plain = plain_form(checkpoint, Smaller(removal, added))
            if plain.settings is not None:
                return Form(masks, removal, biases, plain)
            why = plain.why
    raise UserError(
        f"{checkpoint.folder}: {type(checkpoint.model).__name__} cannot be padded, {why}; save it as `dense`, for "
        "ps.load_pruned" + (", or prune without biases" if added else "")
    )


def biased(checkpoint: Checkpoint, biases: Tensors) -> frozenset[str]:
    """The matrices that have no bias in the checkpoint and get one."""
    return frozenset(name for name in biases if f"{name}.bias" not in checkpoint.sources)


def smaller_shards(checkpoint: Checkpoint, form: Form) -> list[Shard]:
    """One of every block that stays, and one of what is outside them."""
    keys, refs = block_keys(checkpoint), find_refs(checkpoint.model)
    left = [number for number in range(len(refs)) if number not in form.removal.blocks]
    shards: list[Shard] = [partial(block_tensors, checkpoint, keys[n], refs[n], form, n) for n in left]
    return [*shards, partial(checkpoint.raw, keys[-1])]


def block_tensors(checkpoint: Checkpoint, keys: list[str], refs: list[LinearRef], form: Form, number: int) -> Tensors:
    """The tensors of one block, by their keys in the new files."""
    tensors = shard_tensors(checkpoint, keys, refs, form.masks)
    gone = form.masks.removal
    for key in keys_within(checkpoint, gone, number):
        if form.removal.sublayers:
            del tensors[key]
        else:
            tensors[key].zero_()
    refs = [ref for ref in refs if form.removal.left(ref.layer) is not None]
    for key, keep in in_file_form(checkpoint, kept_parts(checkpoint, refs, gone)).items():
        check_form(checkpoint, key, tensors, keep)
        tensors[key].masked_fill_(~keep, 0)
    for key, keep in in_file_form(checkpoint, kept_parts(checkpoint, refs, form.removal)).items():
        tensors[key] = left_of(tensors[key], keep, f"{checkpoint.folder}: {key}")
    path, new = checkpoint.block_paths[number], new_number(form.removal, number)
    for ref in refs:
        if ref.expert is None:
            add_bias(checkpoint, tensors, ref, form, f"{path.rpartition('.')[0]}.{new}")
    return {renumbered(checkpoint, key, path, new): tensor for key, tensor in tensors.items()}


def new_number(removal: Removal, number: int) -> int:
    """Of a block that stays, among those that do."""
    return number - sum(other < number for other in removal.blocks)


def keys_within(checkpoint: Checkpoint, removal: Removal, number: int) -> list[str]:
    """The keys in the files of a block's parameters that are in sub-layers that go."""
    prefix = f"{checkpoint.block_paths[number]}."
    inside = [name for name in checkpoint.sources if name.startswith(prefix) and removal.has_sublayer_of(name)]
    return list(dict.fromkeys(key for name in inside for key in checkpoint.sources[name]))


def check_form(checkpoint: Checkpoint, key: str, tensors: Tensors, keep: torch.Tensor) -> None:
    if key not in tensors or tensors[key].shape != keep.shape:
        raise NotForThisModel(f"{checkpoint.folder}: nothing can be cut out of {key}: its form in the files is unknown")


def add_bias(checkpoint: Checkpoint, tensors: Tensors, ref: LinearRef, form: Form, new_path: str) -> None:
    """The bundle's bias in the place of the matrix's; zeros where only the new config wants one."""
    name = ref.layer.name
    weight = parameter_name(ref)
    key = checkpoint.sources.get(f"{name}.bias", [""])[0]
    wants_zero = f"{new_path}.{ref.module_path}.bias" in form.plain.zero_biases
    if name not in form.biases and not wants_zero:
        return
    if not key:
        if weight in checkpoint.converted:
            raise NotForThisModel(f"{checkpoint.folder}: {name} lies in pieces in the files and can get no bias")
        key = checkpoint.sources[weight][0].removesuffix("weight") + "bias"
    dtype = tensors[key].dtype if key in tensors else checkpoint.stored_dtype(weight)
    cut = form.removal.cuts.get(name)
    rows = ref.layer.out_features if cut is None else cut.shape[0]
    tensors[key] = form.biases[name].to(dtype) if name in form.biases else torch.zeros(rows, dtype=dtype)


def kept_parts(checkpoint: Checkpoint, refs: list[LinearRef], removal: Removal) -> Tensors:
    """By parameter, in its shape, True = stays: of the matrices that lose something, and of their biases."""
    shapes = checkpoint.model.state_dict()
    kept: Tensors = {}
    for ref in refs:
        cut = removal.cuts.get(ref.layer.name)
        if cut is None:
            continue
        rows, cols = torch.from_numpy(cut.rows), torch.from_numpy(cut.cols)
        name = parameter_name(ref)
        bias = f"{ref.layer.name}.bias" if ref.expert is None else f"{name}_bias"
        for each in (name, bias):
            if each not in kept and each in checkpoint.sources:
                kept[each] = torch.ones(shapes[each].shape, dtype=torch.bool)
        ref.view(kept[name]).copy_(rows[:, None] & cols)
        if bias in kept and kept[bias].shape[-1] == len(rows):
            (kept[bias] if ref.expert is None else kept[bias][ref.expert]).copy_(rows)
    return kept


def left_of(tensor: torch.Tensor, keep: torch.Tensor, where: str) -> torch.Tensor:
    """The part of a tensor that stays, any of whose matrices loses whole rows and columns. Raises NotForThisModel."""
    if tensor.ndim == 1:
        return tensor[keep]
    if tensor.ndim == 3:
        parts = [left_of(one, part, where) for one, part in zip(tensor, keep, strict=True)]
        if len({part.shape for part in parts}) > 1:
            raise NotForThisModel(f"{where} is a stack of experts, which must all keep as many neurons")
        return torch.stack(parts)
    rows, cols = keep.any(dim=1), keep.any(dim=0)
    if torch.equal(keep, rows[:, None] & cols):
        return tensor[rows][:, cols]
    counts = keep.sum(dim=1)  # the biases of a stack, one expert's a row
    if bool((counts == counts[0]).all()):
        return tensor[keep].view(len(keep), -1)
    raise NotForThisModel(f"{where} would lose other than whole rows and columns")


def renumbered(checkpoint: Checkpoint, key: str, path: str, number: int) -> str:
    """A key of a block with its new number. Raises NotForThisModel if the files do not number blocks as the model."""
    stack, _, before = path.rpartition(".")
    if before == str(number):
        return key
    pattern = rf"(^|\.)({re.escape(stack.rpartition('.')[2])})\.{before}\."
    renamed, found = re.subn(pattern, rf"\g<1>\g<2>.{number}.", key, count=1)
    if not found:
        raise NotForThisModel(f"{checkpoint.folder}: {key} does not say that it is of block {before}")
    return renamed
