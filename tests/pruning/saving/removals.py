"""Bundles that take chosen units out of a model, and the slow twin of the smaller model: the whole one in memory, by
transformers alone, what was taken out at zero in the input of o and down."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import block_linears, find_blocks, find_refs
from pruning.bundle_values import read_weight
from pruning.structured.units import LAYOUTS, groups_of
from validation.conformance.tiny_models import load_whole
from workloads.bundle import BundleHeader, MaskBundle
from workloads.bundle_writer import BundleWriter
from workloads.mask import PackedMask
from workloads.patterns import DENSE, SMALLER
from workloads.removal import KV_GROUP, NEURON, Removal

Left = Callable[[str, int, int], int]  # (kind, block, number of units) -> how many stay


def even(kind: str, block: int, count: int) -> int:
    """The same in every block."""
    return count // 2


def uneven(kind: str, block: int, count: int) -> int:
    """Block 0 keeps all kv groups, block 1 more neurons."""
    return count // 2 if (kind == KV_GROUP) == (block == 1) else max(1, count * 3 // 4) if kind == NEURON else count


def whole(kind: str, block: int, count: int) -> int:
    return count


def take_out(
    model: Path,
    folder: Path,
    left: Left,
    gone: frozenset[int] = frozenset(),
    *,
    bias: bool = False,
    masked: bool = False,
    layout: str = LAYOUTS[0],
) -> MaskBundle:
    """Random units; with `bias` o and down get random ones, with `masked` every third weight that is left is pruned."""
    draw = np.random.default_rng(0)
    checkpoint = Checkpoint(model)
    refs = find_refs(checkpoint.model)
    units, cuts, biases = [], {}, {}
    for number, block in enumerate(refs):
        if number in gone:
            continue
        for group in groups_of(checkpoint.blocks[number], checkpoint.block_paths[number], block, layout):
            kept = np.zeros(group.count, dtype=bool)
            kept[draw.permutation(group.count)[: left(group.kind, number, group.count)]] = True
            units.append(group.units(kept))
            cuts |= {} if kept.all() else dict(group.cuts(kept))
            output = group.output.layer
            if bias and group.output.expert is None:
                biases[output.name] = draw.normal(size=output.out_features).astype(np.float32)
    removal = Removal(gone, tuple(units), cuts)
    writer = BundleWriter(folder, BundleHeader("tiny", "chosen", SMALLER))
    writer.remove(removal)
    for ref in (ref for block in refs for ref in block):
        layer = removal.left(ref.layer)
        if layer is None:
            writer.add_gone(ref.layer)
            continue
        keep = np.arange(layer.n_weights).reshape(layer.shape) % 3 > 0 if masked else np.ones(layer.shape, dtype=bool)
        pattern = "unstructured" if masked else DENSE if layer.shape == ref.layer.shape else SMALLER
        values = {"bias": biases[layer.name]} if layer.name in biases else None
        writer.add(layer, PackedMask.from_dense(keep), pattern, values=values, unpruned=ref.layer)
    writer.commit()
    return writer.finish()


@torch.no_grad()
def masked_logits(model: Path, bundle: MaskBundle, ids: torch.Tensor) -> torch.Tensor:
    """Logits of the whole model with the columns of o and down of what went at zero (of whole blocks all, and their
    biases), other weights under the masks, the bundle's own in their places, and its biases."""
    full = load_whole(model)
    path, blocks = find_blocks(full)
    removal = bundle.removal
    for number, block in enumerate(blocks):
        for ref in block_linears(block, f"{path}.{number}", number):
            matrix, name = ref.matrix(block), ref.layer.name
            module = block.get_submodule(ref.module_path)
            if number in removal.blocks:
                matrix.zero_()
                if getattr(module, "bias", None) is not None:
                    module.bias.zero_()
                continue
            rows, cols = np.arange(ref.layer.out_features), np.arange(ref.layer.in_features)
            if name in removal.cuts:
                cut = removal.cuts[name]
                matrix[:, torch.from_numpy(~cut.cols)] = 0
                rows, cols = np.flatnonzero(cut.rows), np.flatnonzero(cut.cols)
            weight = read_weight(bundle, name)
            if weight is not None:
                matrix[torch.from_numpy(rows)[:, None], torch.from_numpy(cols)] = weight.to(matrix.dtype)
            pruned = np.argwhere(~bundle[name].to_dense())
            matrix[torch.from_numpy(rows[pruned[:, 0]]), torch.from_numpy(cols[pruned[:, 1]])] = 0
            bias = bundle.values(name).get("bias")
            if bias is not None:
                module.bias = nn.Parameter(torch.from_numpy(bias))
    return full(ids).logits
