"""A quantized checkpoint in the compressed-tensors format "pack-quantized": codes side by side in 32-bit words.

Each quantized matrix (rows, cols) becomes, in place of its `weight`,
    weight_packed      (rows, ceil(cols * bits / 32)) int32: code - 2^(bits-1), as the library packs it
    weight_scale       (rows, groups) in the type that `weight` was stored in
    weight_zero_point  (ceil(rows * bits / 32), groups) int32, packed along the rows; only of asymmetric grids
    weight_shape       (2,) int64
and everything else stays as in the dense checkpoint. All of 2 to 8 bits fit, per row or per group.

Bits per weight = bits + (scale bits + bits of the zero point) / group size: 4.16 for 4 bits, groups of 128, a 16-bit
scale and a zero point. Zeros are codes like any other (their zero point, so they come back as exactly 0): pruning makes
this file no smaller.

`AutoModelForCausalLM.from_pretrained` loads the folder to the weights of the dense checkpoint, bit for bit: code - zero
is exact in every float type, and times scale is one rounding. config.json asks for "dequantize": transformers then
takes the codes apart while it loads. Left to its default it would do so at the first forward pass, but that way it
expects zero points unpacked and refuses them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import LinearRef
from checkpoints.prunable import all_refs, parameter_name
from pruning.applied import check_masks
from pruning.bundle_values import read_quantized
from pruning.forward.hidden_states import Progress
from pruning.quantization_grid import QuantizationGrid, Quantized
from pruning.saving.dense import block_shards, check_ordinary, check_target, check_whole, save_shards, shard_tensors
from workloads.bundle import MaskBundle
from workloads.errors import UserError

DENSE = "save the dense checkpoint instead"


@dataclass(frozen=True)
class Packing:
    """What is packed, by layer name, and on which grid: one for all, since a loader knows one scheme a checkpoint."""

    grid: QuantizationGrid
    names: frozenset[str]


def save_packed(source: Path, masks: MaskBundle, folder: Path, progress: Progress) -> None:
    """Writes the model of `source` with the codes of `masks` packed, its other layers masked, all else as it is.

    Raises UserError as `save_pruned`; without compressed-tensors; and for what the format or transformers' loader
    cannot hold: see `plan_packing`.
    """
    require_library()
    check_target(folder, source)
    check_ordinary(source)
    check_whole(masks)
    checkpoint = Checkpoint(source)
    refs = all_refs(checkpoint)
    check_masks(refs, masks)
    packing = plan_packing(checkpoint, refs, masks, progress)
    config = {"quantization_config": quantization_config(packing.grid, ignored(checkpoint, packing.names))}

    def content(keys: list[str], block: list[LinearRef]) -> dict[str, torch.Tensor]:
        return packed_shard(checkpoint, keys, block, masks, packing)

    stamp = {"format": "pack-quantized", "masks_sha256": masks.sha256, "weights_sha256": checkpoint.sha256()}
    save_shards(checkpoint, block_shards(checkpoint, refs, content), folder, stamp, progress, config)


def require_library() -> None:
    try:
        import compressed_tensors  # noqa: F401
    except ImportError:
        raise UserError(
            "a packed checkpoint needs compressed-tensors; install the extra: pip install 'prunesim[packed]'"
        ) from None


def plan_packing(checkpoint: Checkpoint, refs: list[list[LinearRef]], masks: MaskBundle, progress: Progress) -> Packing:
    """What to pack. Raises UserError if the bundle has no codes, several grids or scaled inputs (AWQ); if a quantized
    matrix is stored (in, out), in other pieces than the model's, or has too few rows; and for stacked experts, unless
    all are quantized, on symmetric grids, and the files hold them one by one (transformers reads no others).
    """
    grid, symmetric, names = None, True, set()
    by_row = all(
        entry.group_size in (None, entry.in_features) for entry in masks.layers
    )  # one scale a row, wide or narrow
    for number, entry in enumerate(masks.layers):
        progress("reading codes", number, len(masks))
        quantized = None if entry.weight_bits is None else read_quantized(masks, entry.name)
        if quantized is None:
            continue
        own = replace(quantized.grid, group_size=0) if by_row else quantized.grid
        grid = grid or own
        where = f"{masks.folder}: {entry.name}"
        if own != grid:
            raise UserError(
                f"{where}: {entry.weight_bits} bits and group size {entry.group_size}, but {grid.bits} and "
                f"{grid.group_size} before it; a packed checkpoint has one grid; {DENSE}"
            )
        if quantized.input_scale is not None:
            raise scaled_inputs(where)
        symmetric = symmetric and is_symmetric(quantized)
        names.add(entry.name)
    if grid is None:
        raise UserError(f"{masks.folder} holds no quantized weights to pack; prune with `bits`, or {DENSE}")
    packing = Packing(replace(grid, symmetric=symmetric), frozenset(names))
    for ref in (ref for block in refs for ref in block):
        check_form(checkpoint, ref, packing)
    return packing


def scaled_inputs(where: str) -> UserError:
    return UserError(
        f"{where}: AWQ scales its inputs, which packed weights cannot say; quantize with `set` "
        f"quantizer.scale_search=false, or {DENSE}"
    )


def check_packable(
    checkpoint: Checkpoint, refs: list[LinearRef], grid: QuantizationGrid, scales_inputs: bool, names: frozenset[str]
) -> None:
    """What can be known before the layers `names` of `refs` are pruned. Raises UserError as `plan_packing`."""
    require_library()
    if scales_inputs:
        raise scaled_inputs(f"{checkpoint.folder}: {refs[0].layer.name}")
    packing = Packing(grid, names)
    for ref in refs:
        check_form(checkpoint, ref, packing)


def check_form(checkpoint: Checkpoint, ref: LinearRef, packing: Packing) -> None:
    """Raises UserError if transformers could not load the matrix packed."""
    where, name = f"{checkpoint.folder}: {ref.layer.name}", parameter_name(ref)
    if name not in checkpoint.sources:
        raise UserError(f"{checkpoint.folder}: the checkpoint lacks {name}")
    by_module = all(key.endswith(".weight") for key in checkpoint.sources[name])
    if ref.expert is not None:
        if name not in checkpoint.converted or ref.transposed or not by_module:
            raise UserError(f"{where}: the files hold its experts as one stack, which cannot be packed; {DENSE}")
        if ref.layer.name not in packing.names:
            raise UserError(f"{where}: this expert is not quantized; transformers loads experts packed or not at all")
        if not packing.grid.symmetric:
            raise UserError(
                f"{where}: transformers loads packed experts without zero points; quantize with `set` "
                f"quantizer.symmetric=true, or {DENSE}"
            )
    elif ref.layer.name in packing.names:
        grid, (rows, cols) = packing.grid, ref.layer.shape
        if ref.transposed:
            raise UserError(f"{where}: it is stored (in, out), as in GPT-2; only plain linears can be packed; {DENSE}")
        if name in checkpoint.converted or not by_module:
            raise UserError(
                f"{where}: the files hold it in other pieces than the model, which cannot be packed; {DENSE}"
            )
        # One word holds the zero points of all rows: the library views it as bytes along the wrong axis, and fails.
        if grid.bits == 4 and not grid.symmetric and rows <= 8 and grid.width(cols) < cols:
            raise UserError(
                f"{where}: compressed-tensors cannot read 4-bit zero points of {rows} rows in groups; use "
                f"`group_size=0`, or {DENSE}"
            )


def packed_shard(
    checkpoint: Checkpoint, keys: list[str], block: list[LinearRef], masks: MaskBundle, packing: Packing
) -> dict[str, torch.Tensor]:
    """The tensors of one shard, by their keys in the files."""
    matrices = stored_matrices(checkpoint, [ref for ref in block if ref.layer.name in packing.names], masks, packing)
    others = [ref for ref in block if ref.layer.name not in packing.names]
    tensors = shard_tensors(checkpoint, [key for key in keys if key not in matrices], others, masks)
    for key, quantized in matrices.items():
        tensors |= {key.removesuffix("weight") + kind: tensor for kind, tensor in packed_tensors(quantized).items()}
    return tensors


def stored_matrices(
    checkpoint: Checkpoint, refs: list[LinearRef], masks: MaskBundle, packing: Packing
) -> dict[str, Quantized]:
    """The quantized matrices of a block under the keys of the files; experts out of the model's stack, one by one."""
    plain: dict[str, Quantized] = {}
    stacks: dict[str, list[Quantized]] = {}
    for ref in refs:
        name, quantized = parameter_name(ref), read_quantized(masks, ref.layer.name)
        assert quantized is not None
        if ref.expert is None:
            grid = replace(packing.grid, scale_dtype=checkpoint.stored_dtype(name))
            plain[checkpoint.sources[name][0]] = replace(quantized, grid=grid)
        else:
            stacks.setdefault(name, []).append(quantized)
    if not stacks:
        return plain
    codes = checkpoint.to_stored({name: torch.stack([one.codes for one in stack]) for name, stack in stacks.items()})
    scale = checkpoint.to_stored({name: torch.stack([one.scale for one in stack]) for name, stack in stacks.items()})
    # Unlike other matrices, transformers leaves experts in the type of their scale: it must be the model's.
    grid = replace(packing.grid, scale_dtype=checkpoint.model.dtype)
    middle = torch.tensor((grid.top + 1) // 2, dtype=torch.uint8)
    return plain | {key: Quantized(grid, codes[key], scale[key], middle.expand(scale[key].shape)) for key in codes}


def is_symmetric(quantized: Quantized) -> bool:
    """Whether every zero point is the middle code, so that none needs to be stored."""
    return bool((quantized.zero == (quantized.grid.top + 1) // 2).all())


def packed_tensors(quantized: Quantized) -> dict[str, torch.Tensor]:
    """What stands in for `weight`; the grid says whether zero points are stored, and the type of the scale."""
    from compressed_tensors.compressors.pack_quantized import pack_to_int32

    grid = quantized.grid

    def signed(codes: torch.Tensor) -> torch.Tensor:
        return (codes.to(torch.int16) - (grid.top + 1) // 2).to(torch.int8)

    tensors = {
        "weight_packed": pack_to_int32(signed(quantized.codes), grid.bits),
        "weight_scale": quantized.scale.to(grid.scale_dtype),
        "weight_shape": torch.tensor(quantized.codes.shape),
    }
    if not grid.symmetric:
        tensors["weight_zero_point"] = pack_to_int32(signed(quantized.zero), grid.bits, packed_dim=0)
    return tensors


def quantization_config(grid: QuantizationGrid, ignore: Iterable[str]) -> dict[str, Any]:
    """What config.json says: every linear but those of `ignore` is packed on `grid`."""
    from compressed_tensors import __version__
    from compressed_tensors.config import CompressionFormat
    from compressed_tensors.quantization import (
        QuantizationArgs,
        QuantizationConfig,
        QuantizationScheme,
        QuantizationStatus,
    )

    weights = QuantizationArgs(
        num_bits=grid.bits,
        symmetric=grid.symmetric,
        strategy="group" if grid.group_size else "channel",
        group_size=grid.group_size or None,
    )
    config = QuantizationConfig(
        config_groups={"group_0": QuantizationScheme(targets=["Linear"], weights=weights)},
        format=CompressionFormat.pack_quantized.value,
        quantization_status=QuantizationStatus.COMPRESSED,
        ignore=sorted(ignore),
    )
    return {"version": __version__, **config.model_dump(mode="json"), "dequantize": True}


def ignored(checkpoint: Checkpoint, packed: frozenset[str]) -> list[str]:
    """The modules that keep a `weight` matrix (head, routers, layers not quantized), as the files call them."""
    names = [
        name
        for name, module in checkpoint.model.named_modules()
        if not isinstance(module, nn.Embedding) and name not in packed
        and isinstance(weight := getattr(module, "weight", None), nn.Parameter) and weight.ndim == 2
    ]  # fmt: skip
    return [checkpoint.sources.get(f"{name}.weight", [name])[0].removesuffix(".weight") for name in names]
