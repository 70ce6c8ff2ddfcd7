"""What the layers of a bundle take in each weight format, to the bit."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from simulator.formats import block_sides, known_format, scale_bits, stored
from simulator.unified_blocks import COUNTED, is_unified, spelled_out, stored_unified
from workloads import __version__
from workloads.bundle import BundleHeader
from workloads.counts import SCALE_BITS
from workloads.errors import UserError
from workloads.mask import PackedMask
from workloads.operations import Linear

WHOLE = 1 << 40  # a block side that takes in any matrix
SUMMED = ("nnz", "stored_values", "value_bytes", "metadata_bytes", "scale_bytes", "total_bytes", "dense_bytes")
NOTHING = {"stored_values": 0, "value_bytes": 0, "metadata_bytes": 0, "scale_bytes": 0}  # of a layer that is gone


def storage_rows(
    header: BundleHeader,
    layers: Iterable[Linear],
    formats: Sequence[str],
    block: tuple[int, int],
    float_bits: int,
) -> Iterator[dict[str, Any]]:
    """Rows of FORMAT_COLUMNS: for every layer one a format, then one a format for all of them.

    `block` (outputs, inputs) is compressed on its own. Layers without weight bits of their own take `float_bits` a
    value. Raises UserError for an unknown format and an impossible block.
    """
    formats = [spelled_out(name, header) if is_unified(name) else name for name in formats]
    for name in formats:
        if is_unified(name):
            continue
        try:
            known_format(name)
        except ValueError as error:
            raise UserError(f"{name!r}: {error}") from None
    if min(block) < 1:
        raise UserError(f"a block needs at least one output and one input, not {block[0]}x{block[1]}")
    sums: dict[str, list[dict[str, Any]]] = {name: [] for name in formats}
    for layer in layers:
        for row in layer_rows(header, layer, formats, block, float_bits):
            sums[row["format"]].append(row)
            yield row
    for name, rows in sums.items():
        yield summed(header, name, block, [row for row in rows if row["feasible"]], len(rows))


def layer_rows(
    header: BundleHeader, layer: Linear, formats: Sequence[str], block: tuple[int, int], float_bits: int
) -> Iterator[dict[str, Any]]:
    weights = layer.weights
    height, width = layer.out_features, layer.in_features
    bits = weights.weight_bits or float_bits
    sides = min(block[0], height), min(block[1], width)
    unpruned = layer.unpruned or (height, width)
    facts = {
        "model": header.model_id,
        "layer": layer.name,
        "role": layer.role,
        "out_features": height,
        "in_features": width,
        "unpruned_out_features": unpruned[0],
        "unpruned_in_features": unpruned[1],
        "nnz": weights.nnz,
        "sparsity": layer.sparsity,
        "block": f"{sides[0]}x{sides[1]}",
        "weight_bits": bits,
        "mask_sha256": weights.sha256,
        "tool_version": __version__,
    }
    if layer.factors is not None:
        why = f"it runs as factors, {layer.factors.words}, which have no zeros"
        yield from ({**facts, "format": name, "feasible": False, "reason": why} for name in formats)
        return
    scales = scale_bytes(layer, height, width, bits)
    dense = -(-unpruned[0] * unpruned[1] * bits // 8) + scale_bytes(layer, *unpruned, bits)
    if layer.is_gone:
        for name in formats:
            facts |= {"format": name, **NOTHING, **ratios(NOTHING, dense, 0)}
            yield {**facts, "feasible": True, "reason": "it was taken out"}
        return
    mask = weights.mask()
    for name in formats:
        try:
            sizes = sizes_in(name, layer, mask, sides, bits) | {"scale_bytes": scales}
        except UserError as error:
            yield {**facts, "format": name, "feasible": False, "reason": str(error)}
            continue
        yield {
            **facts,
            "format": name,
            **sizes,
            **ratios(sizes, dense, height * width),
            "feasible": True,
            "reason": "",
        }


def sizes_in(name: str, layer: Linear, mask: PackedMask, sides: tuple[int, int], bits: int) -> dict[str, Any]:
    """Of a layer's values and metadata. Raises UserError where the format cannot store it."""
    if is_unified(name):
        found = stored_unified(name, mask, layer.weights.values(), bits)
        return {
            "stored_values": found.free_weights + found.unified_blocks,
            "value_bytes": -(-found.value_bits(bits) // 8),
            "metadata_bytes": -(-found.metadata_bits // 8),
            **found.shares,
        }
    values, metadata = stored(name, mask, *sides)
    return {
        "stored_values": int(values.sum()),
        "value_bytes": -(-int(values.sum()) * bits // 8),
        "metadata_bytes": -(-int(metadata.sum()) // 8),
    }


def scale_bytes(layer: Linear, height: int, width: int, bits: int) -> int:
    """Of scales and zero points of a height x width matrix that is quantized as the layer; 0 of floats."""
    weights = layer.weights
    if weights.weight_bits is None:
        return 0
    group = None if weights.group_size in (None, layer.in_features) else weights.group_size
    sides = block_sides(height, height), block_sides(width, width)
    return -(-int(scale_bits(*sides, group, SCALE_BITS, bits).sum()) // 8)


def ratios(sizes: dict[str, int], dense_bytes: int, weights: int) -> dict[str, Any]:
    total = sizes["value_bytes"] + sizes["metadata_bytes"] + sizes["scale_bytes"]
    return {
        "total_bytes": total,
        "dense_bytes": dense_bytes,
        "bits_per_weight": 8 * total / weights if weights else None,
        "compression": dense_bytes / total if total else None,
    }


def summed(
    header: BundleHeader, name: str, block: tuple[int, int], rows: list[dict[str, Any]], layers: int
) -> dict[str, Any]:
    """The line of all layers that the format can store."""
    left_out = layers - len(rows)
    sums = {key: sum(row[key] for row in rows) for key in SUMMED}
    left = sum(row["out_features"] * row["in_features"] for row in rows if row["bits_per_weight"] is not None)
    unpruned = sum(row["unpruned_out_features"] * row["unpruned_in_features"] for row in rows)
    widths = {row["weight_bits"] for row in rows}
    return {
        "model": header.model_id,
        "layer": "all",
        "format": name,
        "block": "whole" if min(block) >= WHOLE else f"{block[0]}x{block[1]}",
        "weight_bits": widths.pop() if len(widths) == 1 else None,
        "sparsity": 1 - sums["nnz"] / unpruned if unpruned else None,
        **sums,
        **of_blocks([row for row in rows if "blocks" in row]),
        **ratios(sums, sums["dense_bytes"], left),
        "feasible": bool(rows),
        "reason": f"{left_out} of {layers} layers cannot be stored so and are left out" if left_out else "",
        "tool_version": __version__,
    }


def of_blocks(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Blocks of all layers, and the shares of their kinds; {} of formats without blocks."""
    number = sum(row["blocks"] for row in rows)
    shares = {name: sum(row[name] * row["blocks"] for row in rows) / number for name in COUNTED[1:] if number}
    return {"blocks": number, **shares} if number else {}
