"""What the layers of a bundle take in each weight format, to the bit."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from simulator.formats import block_sides, known_format, scale_bits, stored
from workloads import __version__
from workloads.bundle import BundleHeader
from workloads.counts import SCALE_BITS
from workloads.errors import UserError
from workloads.operations import Linear

WHOLE = 1 << 40  # a block side that takes in any matrix
SUMMED = ("nnz", "stored_values", "value_bytes", "metadata_bytes", "scale_bytes", "total_bytes")


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
    for name in formats:
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
    weights, mask = layer.weights, layer.weights.mask()
    bits = weights.weight_bits or float_bits
    sides = min(block[0], mask.rows), min(block[1], mask.cols)
    facts = {
        "model": header.model_id,
        "layer": layer.name,
        "role": layer.role,
        "out_features": mask.rows,
        "in_features": mask.cols,
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
    quantized = weights.weight_bits is not None
    rows, cols = block_sides(mask.rows, mask.rows), block_sides(mask.cols, mask.cols)
    scales = int(scale_bits(rows, cols, weights.group_size, SCALE_BITS * quantized, bits * quantized).sum())
    for name in formats:
        try:
            values, metadata = stored(name, mask, *sides)
        except UserError as error:
            yield {**facts, "format": name, "feasible": False, "reason": str(error)}
            continue
        sizes = {
            "stored_values": int(values.sum()),
            "value_bytes": -(-int(values.sum()) * bits // 8),
            "metadata_bytes": -(-int(metadata.sum()) // 8),
            "scale_bytes": -(-scales // 8),
        }
        dense = -(-mask.rows * mask.cols * bits // 8) + sizes["scale_bytes"]
        yield {
            **facts,
            "format": name,
            **sizes,
            **ratios(sizes, dense, mask.rows * mask.cols),
            "feasible": True,
            "reason": "",
        }


def ratios(sizes: dict[str, int], dense_bytes: int, weights: int) -> dict[str, Any]:
    total = sizes["value_bytes"] + sizes["metadata_bytes"] + sizes["scale_bytes"]
    return {
        "total_bytes": total,
        "bits_per_weight": 8 * total / weights if weights else None,
        "compression": dense_bytes / total if total else None,
    }


def summed(
    header: BundleHeader, name: str, block: tuple[int, int], rows: list[dict[str, Any]], layers: int
) -> dict[str, Any]:
    """The line of all layers that the format can store."""
    left_out = layers - len(rows)
    sums = {key: sum(row[key] for row in rows) for key in SUMMED}
    weights = sum(row["out_features"] * row["in_features"] for row in rows)
    dense = sum(
        -(-row["out_features"] * row["in_features"] * row["weight_bits"] // 8) + row["scale_bytes"] for row in rows
    )
    widths = {row["weight_bits"] for row in rows}
    return {
        "model": header.model_id,
        "layer": "all",
        "format": name,
        "block": "whole" if min(block) >= WHOLE else f"{block[0]}x{block[1]}",
        "weight_bits": widths.pop() if len(widths) == 1 else None,
        "sparsity": 1 - sums["nnz"] / weights if weights else None,
        **sums,
        **ratios(sums, dense, weights),
        "feasible": bool(rows),
        "reason": f"{left_out} of {layers} layers cannot be stored so and are left out" if left_out else "",
        "tool_version": __version__,
    }
