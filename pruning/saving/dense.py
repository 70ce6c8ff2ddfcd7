"""A pruned checkpoint: the original files' tensors, bit for bit, with exact +0.0 where a mask prunes.

One block is in memory at a time; each becomes one shard, written whole or not at all, and shards already there are kept
when a killed run is repeated. `AutoModelForCausalLM.from_pretrained` loads the folder like the original.
"""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import LinearRef
from checkpoints.prunable import all_refs, parameter_name
from checkpoints.smaller import Smaller
from checkpoints.weight_files import REMOVAL_NAME, SMALLER_INDEX
from checkpoints.weights import SafetensorsWeights
from pruning.applied import check_masks
from pruning.bundle_values import read_weight
from pruning.data.tokenizer import load_tokenizer
from pruning.forward.hidden_states import Progress
from workloads.bundle import MaskBundle
from workloads.errors import UserError
from workloads.files import is_leftover, pretty_json, read_json, replacing, sha256_of_file, write_text
from workloads.locking import writing
from workloads.removal import Cut

STAMP_FILE = "pruned-from.json"
SHARDS = "shards"  # in the stamp: their hashes, so that a damaged one is written again
INDEX_FILE = "model.safetensors.index.json"
OF_PACKED = ("quantization_config", "compression_config", "sparsity_config")  # settings that say how weights are packed

Content = Callable[[list[str], list[LinearRef]], dict[str, torch.Tensor]]  # keys and matrices of a block -> its tensors
Shard = Callable[[], dict[str, torch.Tensor]]


def check_target(folder: Path, source: Path, stamp: dict[str, str] | None = None) -> None:
    """Raises UserError if the folder is the source itself, or holds something else."""
    if folder.resolve() == source.resolve():
        raise UserError(f"`save_model` {folder} is the model itself; choose another folder")
    if (
        folder.is_dir()
        and not (folder / STAMP_FILE).exists()
        and not all(is_leftover(f.name) for f in folder.iterdir())
    ):
        raise UserError(f"`save_model` {folder} is not empty; choose another folder")
    if stamp is not None and (folder / STAMP_FILE).exists() and read_stamp(folder)[0] != stamp:
        raise UserError(
            f"`save_model` {folder} holds a checkpoint pruned with other masks or from other weights, or packed "
            "otherwise; choose another folder or delete it"
        )


def check_ordinary(source: Path) -> None:
    """Raises UserError if the source's blocks have sizes that its config does not say."""
    if (source / REMOVAL_NAME).is_file():
        raise UserError(
            f"{source} is a pruned model with blocks of different sizes, of which only `dense` can be saved; prune and "
            "save the original anew, `after` its bundle"
        )


def read_stamp(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """(what the checkpoint is made of, hashes of the shards written so far) of a folder of ours; both empty if it says
    neither."""
    try:
        said = read_json(folder / STAMP_FILE, "pruned checkpoint")
    except UserError:
        return {}, {}
    if not isinstance(said, dict) or not isinstance(said.get(SHARDS, {}), dict):
        return {}, {}
    return {key: value for key, value in said.items() if key != SHARDS}, said.get(SHARDS, {})


def save_pruned(source: Path, masks: MaskBundle, folder: Path, progress: Progress) -> None:
    """Writes the model of `source` with `masks` applied, one of different sizes as what it is. Raises UserError as
    `check_target`, or on foreign masks."""
    check_target(folder, source)
    check_whole(masks)
    checkpoint = Checkpoint(source)
    if checkpoint.smaller is not None and checkpoint.smaller.factors:
        check_ordinary(source)
    refs = all_refs(checkpoint)
    check_masks(refs, masks)
    stamp = {"masks_sha256": masks.sha256, "weights_sha256": checkpoint.sha256()}
    shards = block_shards(checkpoint, refs, lambda keys, block: shard_tensors(checkpoint, keys, block, masks))
    save_shards(checkpoint, shards, folder, stamp, progress, smaller=checkpoint.smaller)


def check_whole(masks: MaskBundle) -> None:
    """Raises UserError for a bundle that takes something out."""
    if masks.is_smaller:
        raise UserError(
            f"{masks.folder} takes {masks.removal.words} out of the model; save it as `dense` or `padded` by "
            "`save_smaller`, no other form holds it"
        )


def save_floats(source: Path, folder: Path, progress: Progress) -> None:
    """Writes a model as it is, in plain floats: what a GGUF file or a packed checkpoint holds. Raises UserError as
    `check_target`, and of models of different sizes."""
    check_target(folder, source)
    check_ordinary(source)
    checkpoint = Checkpoint(source)
    stamp = {"weights_sha256": checkpoint.sha256()}
    shards = block_shards(checkpoint, all_refs(checkpoint), lambda keys, block: checkpoint.raw(keys))
    save_shards(checkpoint, shards, folder, stamp, progress)


def block_shards(checkpoint: Checkpoint, refs: list[list[LinearRef]], content: Content) -> list[Shard]:
    """One of every block, and one of what is outside them."""
    return [
        partial(content, keys, refs[number] if number < len(refs) else [])
        for number, keys in enumerate(block_keys(checkpoint))
    ]


def save_shards(
    checkpoint: Checkpoint, shards: list[Shard], folder: Path, stamp: dict[str, str], progress: Progress,
    config: dict[str, Any] | None = None, smaller: Smaller | None = None,
) -> None:  # fmt: skip
    """Writes the shards that are not there whole yet, the settings with `config` added, and the index last. With
    `smaller` that is written too, and shards and index get the names that go with it (checkpoints/smaller.py)."""
    check_target(folder, checkpoint.folder)
    with writing(folder):
        check_target(folder, checkpoint.folder, stamp)
        write_shards(checkpoint, shards, folder, stamp, progress, config or {}, smaller)


def write_shards(
    checkpoint: Checkpoint, shards: list[Shard], folder: Path, stamp: dict[str, str], progress: Progress,
    config: dict[str, Any], smaller: Smaller | None,
) -> None:  # fmt: skip
    known, hashes = read_stamp(folder)[1], dict[str, str]()
    index = INDEX_FILE if smaller is None else SMALLER_INDEX
    count, start = len(shards), index.partition(".")[0]
    files = [folder / f"{start}-{n + 1:05d}-of-{count:05d}.safetensors" for n in range(count)]
    write_text(folder / STAMP_FILE, pretty_json(stamp | {SHARDS: known}))
    for number, (file, content) in enumerate(zip(files, shards, strict=True)):
        progress("saving", number, count)
        if not file.exists() or known.get(file.name) != sha256_of_file(file):
            tensors = {key: tensor.contiguous() for key, tensor in content().items()}
            with replacing(file) as part:
                save_file(tensors, part, metadata={"format": "pt"})
        hashes[file.name] = sha256_of_file(file)
        write_text(folder / STAMP_FILE, pretty_json(stamp | {SHARDS: known | hashes}))
    save_companions(checkpoint, folder, config)
    if smaller is not None:
        with replacing(folder / REMOVAL_NAME) as part:
            smaller.write(part)
    write_text(folder / STAMP_FILE, pretty_json(stamp | {SHARDS: hashes}))
    weight_map = {key: file.name for file in files for key in SafetensorsWeights([file]).names()}
    size = sum(file.stat().st_size for file in files)
    write_text(folder / index, pretty_json({"metadata": {"total_size": size}, "weight_map": weight_map}))


def save_companions(checkpoint: Checkpoint, folder: Path, more: dict[str, Any]) -> None:
    """Settings and tokenizer: copies of the source's files, or what a GGUF file says. `more` is added to config.json;
    what it said of packed weights is not true of the new ones and is left out."""
    source = checkpoint.folder
    if checkpoint.is_gguf:
        settings = checkpoint.config.to_dict() | {"architectures": [type(checkpoint.model).__name__], "use_cache": True}
        write_text(folder / "config.json", json.dumps(settings | {"dtype": "float32"} | more, indent=2) + "\n")
        with suppress(UserError):  # a file without a tokenizer makes a folder without one
            load_tokenizer(source).save_pretrained(folder)
        return
    for file in source.iterdir():
        if file.suffix in (".json", ".model", ".txt", ".jinja") and is_companion(file):
            with replacing(folder / file.name) as part:
                shutil.copyfile(file, part)
    settings = read_json(source / "config.json", "model config")
    kept = {key: value for key, value in settings.items() if key not in OF_PACKED}
    if kept | more != settings:
        write_text(folder / "config.json", json.dumps(kept | more, indent=2) + "\n")


def is_companion(file: Path) -> bool:
    """Whether a file of a model folder goes with any weights: settings and tokenizer, not indices of shards."""
    return file.is_file() and not file.name.endswith(".index.json") and file.name != STAMP_FILE


def block_keys(checkpoint: Checkpoint) -> list[list[str]]:
    """The keys in the files of every block, then those outside the blocks."""
    groups: list[dict[str, None]] = [{} for _ in range(len(checkpoint.blocks) + 1)]
    number_of = {path: number for number, path in enumerate(checkpoint.block_paths)}
    depths = {path.count(".") + 1 for path in number_of}
    for name, keys in checkpoint.sources.items():
        owner = checkpoint.shared.get(name, name)
        paths = (".".join(owner.split(".")[:depth]) for depth in depths)
        number = next((number_of[path] for path in paths if path in number_of), -1)
        groups[number].update(dict.fromkeys(keys))
    return [list(group) for group in groups]


def shard_tensors(
    checkpoint: Checkpoint, keys: list[str], refs: list[LinearRef], masks: MaskBundle
) -> dict[str, torch.Tensor]:
    """The tensors of the files under `keys`, those of `refs` as the bundle has them: its weights where it holds some,
    exact +0.0 where it prunes or what stood there was taken out."""
    tensors = checkpoint.raw(keys)
    kept, changed, weights = in_model_form(checkpoint, refs, masks)
    changed_in_files, weights_in_files = in_file_form(checkpoint, changed), in_file_form(checkpoint, weights)
    for key, keep in in_file_form(checkpoint, kept).items():
        if key not in tensors or tensors[key].shape != keep.shape:
            raise UserError(f"{checkpoint.folder}: no mask can be written into {key}: its form in the files is unknown")
        if key in weights_in_files:
            made = weights_in_files[key].to(tensors[key].dtype)
            tensors[key] = torch.where(changed_in_files[key], made, tensors[key])
        tensors[key].masked_fill_(~keep, 0)
    return tensors


def in_model_form(
    checkpoint: Checkpoint, refs: list[LinearRef], masks: MaskBundle
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """By parameter, in its shape: True = kept; True = the bundle holds the weight; those weights, in the type of the
    files. The last two only of parameters with such weights."""
    kept: dict[str, torch.Tensor] = {}
    changed: dict[str, torch.Tensor] = {}
    weights: dict[str, torch.Tensor] = {}
    for ref in refs:
        name = parameter_name(ref)
        if name not in checkpoint.sources:
            raise UserError(f"{checkpoint.folder}: the checkpoint lacks {name}")
        shape = checkpoint.model.get_parameter(name).shape
        if name not in kept:
            kept[name] = torch.ones(shape, dtype=torch.bool)
        if ref.layer.name not in masks:
            continue
        cut = masks.removal.cuts.get(ref.layer.name)
        ref.view(kept[name]).copy_(in_place(torch.from_numpy(masks[ref.layer.name].to_dense()), cut))
        weight = read_weight(masks, ref.layer.name)
        if weight is not None:
            if name not in weights:
                changed[name] = torch.zeros(shape, dtype=torch.bool)
                weights[name] = torch.zeros(shape, dtype=checkpoint.stored_dtype(name))
            ref.view(changed[name]).fill_(True)
            ref.view(weights[name]).copy_(in_place(weight, cut))
    return kept, changed, weights


def in_place(tensor: torch.Tensor, cut: Cut | None) -> torch.Tensor:
    """What a cut leaves of a matrix where it was in the matrix, 0 (False) elsewhere."""
    if cut is None:
        return tensor
    whole = torch.zeros(len(cut.rows), len(cut.cols), dtype=tensor.dtype)
    rows, cols = (torch.from_numpy(np.flatnonzero(part)) for part in (cut.rows, cut.cols))
    whole[rows[:, None], cols] = tensor
    return whole


def in_file_form(checkpoint: Checkpoint, parameters: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Parameters, or anything of their shapes, under the keys of the files. Experts that the files hold one by one, but
    the model as one stack, take the way by which transformers saves such a stack."""
    converted = {name: tensor for name, tensor in parameters.items() if name in checkpoint.converted}
    plain = {checkpoint.sources[name][0]: t for name, t in parameters.items() if name not in checkpoint.converted}
    return plain | (checkpoint.to_stored(converted) if converted else {})
