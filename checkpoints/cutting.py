"""A block of a model made smaller in place: what a removal leaves of its matrices, their biases, and what the block
knows of its heads."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from checkpoints.discovery import LinearRef, block_linears
from workloads.errors import NotForThisModel
from workloads.removal import KV_GROUP, Cut, Removal

# What families call the numbers of heads and of their features, on an attention module and in its config.
HEADS = ("num_heads", "num_attention_heads", "n_head", "n_heads")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads")
FEATURES = ("embed_dim", "split_size", "all_head_size")
OUT, IN = ("out_features", "nf"), ("in_features", "nx")


@torch.no_grad()
def cut_block(
    block: nn.Module, path: str, number: int, removal: Removal, biases: Mapping[str, torch.Tensor] | None = None
) -> None:
    """Takes what goes out of a block whose weights are there (or on the meta device); `biases` by the names of matrices
    take the place of theirs."""
    attention = {unit.module: unit.kept for unit in removal.units if unit.kind == KV_GROUP and unit.block == number}
    for place, kept in attention.items():
        resize_attention(block.get_submodule(place.removeprefix(f"{path}.")), len(kept), int(kept.sum()))
    stacks: dict[tuple[str, str], list[tuple[LinearRef, Cut]]] = {}
    for ref in block_linears(block, path, number):
        cut = removal.cuts.get(ref.layer.name)
        if cut is not None and ref.expert is not None:
            stacks.setdefault((ref.module_path, ref.parameter), []).append((ref, cut))
        elif cut is not None:
            module = block.get_submodule(ref.module_path)
            _cut_linear(module, cut, ref.transposed)
        if biases and ref.layer.name in biases and ref.expert is None:
            module = block.get_submodule(ref.module_path)
            weight = ref.matrix(block)
            module.bias = nn.Parameter(biases[ref.layer.name].to(weight), requires_grad=False)
    for (module_path, parameter), members in stacks.items():
        _cut_stack(block.get_submodule(module_path), parameter, members, path)


def _cut_linear(module: nn.Module, cut: Cut, transposed: bool) -> None:
    rows, cols = (torch.from_numpy(np.flatnonzero(part)) for part in (cut.rows, cut.cols))
    weight: Any = module.weight
    rows, cols = rows.to(weight.device), cols.to(weight.device)
    first, second = (cols, rows) if transposed else (rows, cols)
    module.weight = nn.Parameter(weight.detach()[first][:, second].contiguous(), requires_grad=False)
    bias: Any = getattr(module, "bias", None)
    if bias is not None and len(bias) == len(cut.rows):
        module.bias = nn.Parameter(bias.detach()[rows].contiguous(), requires_grad=False)
    for names, size in ((OUT, cut.shape[0]), (IN, cut.shape[1])):
        for name in names:
            if hasattr(module, name):
                setattr(module, name, size)


def _cut_stack(module: nn.Module, parameter: str, members: list[tuple[LinearRef, Cut]], path: str) -> None:
    """Experts in one 3-D parameter: as many rows and columns of each, whichever they are."""
    shapes = {cut.shape for _, cut in members}
    if len(shapes) > 1:
        raise NotForThisModel(f"{path}: the experts of {parameter} are one stack, so all must keep as many neurons")
    whole = getattr(module, parameter)
    pieces = []
    for ref, cut in members:
        rows, cols = (torch.from_numpy(np.flatnonzero(part)).to(whole.device) for part in (cut.rows, cut.cols))
        piece = ref.view(whole.detach())[rows][:, cols]
        pieces.append(piece.T if ref.transposed else piece)
    setattr(module, parameter, nn.Parameter(torch.stack(pieces).contiguous(), requires_grad=False))
    bias = getattr(module, f"{parameter}_bias", None)
    if bias is not None:
        rows_of = [torch.from_numpy(np.flatnonzero(cut.rows)).to(bias.device) for _, cut in members]
        left = [one[rows] for one, rows in zip(bias.detach(), rows_of, strict=True)]
        setattr(module, f"{parameter}_bias", nn.Parameter(torch.stack(left), requires_grad=False))


def resize_attention(module: nn.Module, groups: int, left: int) -> None:
    """Tells an attention module, which had `groups` kv groups, that it has `left`; where it asks its config, it gets
    one of its own."""
    for owner in (module, getattr(module, "config", None)):
        if owner is None:
            continue
        if owner is not module:
            owner = copy.deepcopy(owner)
            module.config = owner
        for name in (*HEADS, *KV_HEADS, *FEATURES):
            size = getattr(owner, name, None)
            fits = isinstance(size, int) and not isinstance(size, bool) and size % groups == 0
            if fits and (owner is module or name not in FEATURES):
                setattr(owner, name, int(size or 0) // groups * left)


class Restored:
    """A block as it was before it was cut: parameters are replaced on the meta device, attributes set back."""

    def __init__(self, block: nn.Module):
        self._modules = [(module, dict(vars(module))) for module in block.modules()]
        self._parameters = [
            (module, name, None if p is None else (tuple(p.shape), p.dtype))
            for module in block.modules()
            for name, p in module._parameters.items()
        ]

    def restore(self) -> None:
        for module, attributes in self._modules:
            for name, value in attributes.items():
                if not name.startswith("_"):
                    vars(module)[name] = value
        for module, name, shape in self._parameters:
            empty = None if shape is None else torch.empty(shape[0], dtype=shape[1], device="meta")
            module._parameters[name] = None if empty is None else nn.Parameter(empty, requires_grad=False)
