"""A pruned checkpoint: the original files' tensors, bit for bit, with exact +0.0 where a mask prunes.

One block is in memory at a time; each becomes one shard, written whole or not at all, and shards already there are kept
when a killed run is repeated. `AutoModelForCausalLM.from_pretrained` loads the folder like the original.
"""

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

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
        raise UserError(
            f"--save-model {folder} holds a checkpoint pruned with other masks or from other weights; choose another "
            "folder or delete it"
        )
    check_writable_folder(folder)


def save_pruned(source: Path, masks: MaskBundle, folder: Path, progress: Progress) -> None:
    """Writes the model of `source` with `masks` applied. Raises UserError as `check_target`, or on foreign masks."""
    check_target(folder, source)
    checkpoint = Checkpoint(source)
    refs = all_refs(checkpoint)
    check_masks(refs, masks)
    stamp = {"masks_sha256": masks.sha256, "weights_sha256": checkpoint.sha256()}
    check_target(folder, source, stamp)
    write_text(folder / STAMP_FILE, pretty_json(stamp))
    shards: list[tuple[Path, list[str]]] = []
    groups = [*block_keys(checkpoint)]
    for number, keys in enumerate(groups):
        progress("saving", number, len(groups))
        shard = folder / f"model-{number + 1:05d}-of-{len(groups):05d}.safetensors"
        shards.append((shard, keys))
        if not shard.exists():
            save_shard(checkpoint, keys, refs[number] if number < len(refs) else [], masks, shard)
    for file in source.iterdir():
        if file.suffix in (".json", ".model", ".txt", ".jinja") and is_companion(file):
            with replacing(folder / file.name) as part:
                shutil.copyfile(file, part)
    weight_map = {key: shard.name for shard, keys in shards for key in keys}
    size = sum(shard.stat().st_size for shard, _ in shards)
    write_text(folder / INDEX_FILE, pretty_json({"metadata": {"total_size": size}, "weight_map": weight_map}))


def is_companion(file: Path) -> bool:
    """Whether a file of a model folder goes with any weights: settings and tokenizer, not indices of shards."""
    return file.is_file() and not file.name.endswith(".index.json") and file.name != STAMP_FILE


def block_keys(checkpoint: Checkpoint) -> list[list[str]]:
    """The keys in the files of every block, then those outside the blocks."""
    groups: list[dict[str, None]] = [{} for _ in range(len(checkpoint.blocks) + 1)]
    inside = checkpoint.block_path + "."
    for name, keys in checkpoint.sources.items():
        block = name.removeprefix(inside).partition(".")[0] if name.startswith(inside) else ""
        number = int(block) if block.isdigit() and int(block) < len(checkpoint.blocks) else -1
        groups[number].update(dict.fromkeys(keys))
    return [list(group) for group in groups]


def save_shard(checkpoint: Checkpoint, keys: list[str], refs: list[LinearRef], masks: MaskBundle, shard: Path) -> None:
    tensors = checkpoint.raw(keys)
    for key, keep in stored_masks(checkpoint, refs, masks).items():
        if key not in tensors or tensors[key].shape != keep.shape:
            raise UserError(f"{checkpoint.folder}: no mask can be written into {key}: its form in the files is unknown")
        tensors[key].masked_fill_(~keep, 0)
    with replacing(shard) as part:
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, part, metadata={"format": "pt"})


def stored_masks(checkpoint: Checkpoint, refs: list[LinearRef], masks: MaskBundle) -> dict[str, torch.Tensor]:
    """True = kept, in the shapes and under the keys of the files. Experts that the files hold one by one, but the
    model as one stack, get their masks through the way transformers takes to save such a stack."""
    kept: dict[str, torch.Tensor] = {}
    for ref in refs:
        name = parameter_name(ref)
        if name not in kept:
            kept[name] = torch.ones(checkpoint.model.get_parameter(name).shape, dtype=torch.bool)
        if ref.layer.name in masks:
            view = kept[name] if ref.expert is None else kept[name][ref.expert]
            (view.T if ref.transposed else view).copy_(torch.from_numpy(masks[ref.layer.name].to_dense()))
    for name in kept:
        if name not in checkpoint.sources:
            raise UserError(f"{checkpoint.folder}: the checkpoint lacks {name}")
    converted = {name: keep for name, keep in kept.items() if name in checkpoint.converted}
    plain = {checkpoint.sources[name][0]: keep for name, keep in kept.items() if name not in checkpoint.converted}
    return plain | (checkpoint.to_stored(converted) if converted else {})


def parameter_name(ref: LinearRef) -> str:
    """The full name of the parameter a reference points into."""
    return f"{ref.layer.name}.{ref.parameter}" if ref.expert is None else ref.layer.name.rpartition(".")[0]
