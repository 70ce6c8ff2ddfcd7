"""A pruned checkpoint: the original files' tensors, bit for bit, with exact +0.0 where a mask prunes.

One block is in memory at a time; each becomes one shard, written whole or not at all, and shards already there are kept
when a killed run is repeated. `AutoModelForCausalLM.from_pretrained` loads the folder like the original.
"""

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers.core_model_loading import revert_weight_conversion

from pruning.driver import Progress, all_refs
from pruning.evaluate import check_masks
from workloads.bundle import MaskBundle
from workloads.checkpoint import Checkpoint
from workloads.discovery import LinearRef
from workloads.errors import UserError
from workloads.files import check_writable_folder, pretty_json, replacing, write_text

STAMP_FILE = "pruned-from.json"
INDEX_FILE = "model.safetensors.index.json"


def check_target(folder: Path, source: Path, stamp: dict[str, str] | None = None) -> None:
    """Raises UserError if the folder cannot be written, is the source itself, or holds something else."""
    if folder.resolve() == source.resolve():
        raise UserError(f"--save-model {folder} is the model itself; choose another folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / STAMP_FILE).exists():
        raise UserError(f"--save-model {folder} is not empty; choose another folder")
    if stamp is not None and (folder / STAMP_FILE).exists() and (folder / STAMP_FILE).read_text() != pretty_json(stamp):
        raise UserError(f"--save-model {folder} holds a checkpoint pruned with other masks; choose another folder")
    check_writable_folder(folder)


def save_pruned(source: Path, masks: MaskBundle, folder: Path, progress: Progress) -> None:
    """Writes the model of `source` with `masks` applied. Raises UserError as `check_target`, or on foreign masks."""
    stamp = {"masks_sha256": masks.sha256, "weights_sha256": str(masks.header.model_config.get("weights_sha256", ""))}
    check_target(folder, source, stamp)
    write_text(folder / STAMP_FILE, pretty_json(stamp))
    checkpoint = Checkpoint(source)
    refs = all_refs(checkpoint)
    check_masks(refs, masks)
    shards: list[tuple[Path, list[str]]] = []
    inside = checkpoint.block_path + "."
    outside = [name for name in checkpoint.sources if not name.startswith(inside)]
    groups = [
        *(
            ([name for name in checkpoint.sources if name.startswith(f"{inside}{b}.")], refs[b])
            for b in range(len(refs))
        ),
        (outside, []),
    ]
    for number, (names, block_refs) in enumerate(groups):
        progress("saving", number, len(groups))
        shard = folder / f"model-{number + 1:05d}-of-{len(groups):05d}.safetensors"
        shards.append((shard, save_shard(checkpoint, names, block_refs, masks, shard)))
    for file in source.iterdir():
        if file.is_file() and file.suffix in (".json", ".model", ".txt", ".jinja") and file.name != INDEX_FILE:
            with replacing(folder / file.name) as part:
                shutil.copyfile(file, part)
    weight_map = {key: shard.name for shard, keys in shards for key in keys}
    size = sum(shard.stat().st_size for shard, _ in shards)
    write_text(folder / INDEX_FILE, pretty_json({"metadata": {"total_size": size}, "weight_map": weight_map}))


def save_shard(
    checkpoint: Checkpoint, names: list[str], refs: list[LinearRef], masks: MaskBundle, shard: Path
) -> list[str]:
    """Writes one shard unless it is there; returns the checkpoint keys in it."""
    converted = [name for name in names if checkpoint.is_converted(name)]
    keys = [key for name in names for key in checkpoint.sources[name]]
    if shard.exists():
        return keys
    tensors = {key: checkpoint.raw(key) for name in names if name not in converted for key in checkpoint.sources[name]}
    key_of = {name: checkpoint.sources[name][0] for name in names if name not in converted}
    for ref in refs:
        name = parameter_name(ref)
        if name in key_of and ref.layer.name in masks:
            keep = torch.from_numpy(masks[ref.layer.name].to_dense())
            weight = tensors[key_of[name]]
            view = weight[ref.expert] if ref.expert is not None else weight
            (view.T if ref.transposed else view).masked_fill_(~keep, 0)
    if converted:
        tensors |= unstacked(checkpoint, converted, refs, masks)
    with replacing(shard) as part:
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, part, metadata={"format": "pt"})
    return keys


def unstacked(
    checkpoint: Checkpoint, names: list[str], refs: list[LinearRef], masks: MaskBundle
) -> dict[str, torch.Tensor]:
    """Masked parameters that the checkpoint keeps in pieces (one matrix an expert), in pieces again."""
    checkpoint.load(names)
    state = {name: checkpoint.model.get_parameter(name).detach().clone() for name in names}
    for ref in refs:
        name = parameter_name(ref)
        if name in state and ref.layer.name in masks:
            keep = torch.from_numpy(masks[ref.layer.name].to_dense())
            view = state[name][ref.expert] if ref.expert is not None else state[name]
            (view.T if ref.transposed else view).masked_fill_(~keep, 0)
    pieces = revert_weight_conversion(checkpoint.model, state)
    checkpoint.release(checkpoint.model)
    return pieces


def parameter_name(ref: LinearRef) -> str:
    """The full name of the parameter a reference points into."""
    name = ref.layer.name if ref.expert is None else ref.layer.name.rpartition(".")[0]
    return f"{name}.{ref.parameter}" if ref.expert is None else name
