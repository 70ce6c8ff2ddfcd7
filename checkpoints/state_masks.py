"""Masks and sparse weights among the tensors of safetensors and torch files that come without a config (needs
torch)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from checkpoints.compressed import PARTS, REFUSED, Decompressed, check_plain, decompressed
from checkpoints.weight_files import kind_of
from checkpoints.weights import HeldWeights, SafetensorsWeights, Weights, check_tensor, load_torch
from workloads.errors import UserError
from workloads.importers import Matrix, block_of, matrices_of, natural
from workloads.mask import PackedMask
from workloads.mask_names import MASK_ENDINGS, plain_name
from workloads.roles import role_of

# What torch.save is often given around the tensors.
_WRAPPERS = ("state_dict", "model", "module", "masks", "mask")


def read_state_masks(path: Path, files: Sequence[Path]) -> Iterator[Matrix]:
    """Every mask, in natural order; which tensors are meant, `chosen` says.

    Raises UserError for unreadable files, for other values than a mask's or finite weights, and where no tensor is a
    matrix.
    """
    place: dict[str, Weights] = {}
    for file in files:
        tensors = open_tensors(file)
        for name in tensors.names():
            if name in place:
                raise UserError(
                    f"{path}: {name!r} is in {file.name} and in another of its files; give every mask a name of its own"
                )
            place[name] = tensors
    names = chosen({name: tensors.shape(name) for name, tensors in place.items()})
    if not names:
        raise UserError(
            f"{path} holds no matrix; save one (out_features, in_features) mask a layer, or weights that hold zeros"
        )
    for name in names:
        weights, where = place[name], f"{path}: {name}"
        tensor = weights.tensors([name])[name]
        if f"{name}_scale" in place and not tensor.dtype.is_floating_point:
            kept = from_codes(tensor, f"{name}_zero_point", place, where)
            scales = math.prod(place[f"{name}_scale"].shape(f"{name}_scale"))
            grid = 8 * tensor.itemsize, max(1, min(kept.numel() // scales, kept.shape[1]))
            yield Matrix(name, PackedMask.from_dense(kept.numpy()), True, grid=grid)
            continue
        numbers = tensor.float() if tensor.dtype.is_floating_point and tensor.itemsize < 4 else tensor
        packed = weights.grid(name) if isinstance(weights, Decompressed) else None
        for matrix in matrices_of(name, numbers.numpy(), where):
            yield replace(matrix, grid=packed)


def from_codes(codes: torch.Tensor, zero_point: str, place: dict[str, Weights], where: str) -> torch.Tensor:
    """Which weights are not zero, where each is a whole number (rows, cols) beside its scale: those that differ from
    the zero point of their row or group."""
    if zero_point not in place:
        return codes != 0
    zero = place[zero_point].tensors([zero_point])[zero_point]
    rows, cols = codes.shape
    groups = zero.numel() // rows if zero.numel() % rows == 0 else 0
    if zero.numel() == 1:
        return codes != zero.reshape(1, 1)
    if not groups or cols % groups:
        raise UserError(
            f"{where}: {zero.numel()} zero points do not fit {rows} x {cols} weights; save the checkpoint again"
        )
    return codes != zero.reshape(rows, groups).repeat_interleave(cols // groups, dim=1)


def open_tensors(file: Path) -> Weights:
    """The tensors of a file, packed ones as floats; of a torch file those in all dicts and lists, the places in them as
    names."""
    if kind_of(file) == "torch":
        return HeldWeights(dict(_flat(load_torch(file), "", file)))
    tensors: Weights = SafetensorsWeights([file])
    leaves = {name.rpartition(".")[2]: name for name in tensors.names()}
    check_plain(tensors, [name for leaf, name in leaves.items() if leaf in REFUSED and leaf != "weight_scale"], file)
    return decompressed(tensors, file) if PARTS.keys() & leaves.keys() else tensors


def _flat(content: Any, prefix: str, file: Path) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(content, torch.Tensor):
        name = prefix or file.stem
        check_tensor(file, name, content)
        yield name, content
        return
    if isinstance(content, dict) and len(content) == 1 and next(iter(content)) in _WRAPPERS and not prefix:
        (inner,) = content.values()
        if not isinstance(inner, torch.Tensor):
            content = inner
    if isinstance(content, dict | list | tuple):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key), file)


def chosen(shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """The keys of the masks: those that are called masks where there are such (torch.nn.utils.prune keeps weight_mask
    beside weight_orig); else the weights of linears in numbered blocks where there are such; else every matrix."""
    matrices = [
        key
        for key in sorted(shapes, key=natural)
        if len(shapes[key]) == 2 or (len(shapes[key]) == 3 and "experts" in key.split("."))
    ]
    masks = [key for key in matrices if key.endswith(MASK_ENDINGS) and _is_linear(plain_name(key))]
    weights = [key for key in matrices if key.endswith(".weight") and _is_linear(plain_name(key))]
    return masks or weights or matrices


def _is_linear(name: str) -> bool:
    return role_of(name) != "other" and block_of(name) >= 0
