"""What the rows of a record say of a layer, and of the weights that a case had. Needs no torch."""

import math
from typing import Any

from measurement.shapes import ANY
from workloads import __version__
from workloads.patterns import DENSE, kept_of_four

Case = dict[str, Any]
Row = dict[str, Any]
WEIGHT_BITS = {
    "int8": 8, "int8-24": 8, "fp8": 8, "fp8-24": 8, "int4": 4, "int8-x86": 8, "int8-onednn": 8, "int8-weights": 8,
    "int4-weights": 4, "csr": 32, "bsr": 32, "bf16": 16,
    "openvino-bf16": 16, "openvino-int8": 8, "openvino-sparse": 8,
}  # fmt: skip


def weight_bits(case: Case) -> int:
    of_dense = {"fp32": 32, "int8": 8, "fp8": 8}.get(case["dtype"], 16)
    return WEIGHT_BITS.get(case["kernel"], of_dense)


def drawn_kept(case: Case) -> int | None:
    """Weights of a mask whose density was chosen; others say it by their pattern."""
    return round(case["density"] * case["out_features"] * case["in_features"]) if case["density"] < 1 else None


def density_of(layer: dict[str, Any]) -> float:
    """The share kept of a layer in a record's header; 1 where it is not known."""
    nnz = layer.get("nnz")
    return 1.0 if nnz is None else float(nnz) / (layer["out_features"] * layer["in_features"])


def shape_alone(
    model: str,
    pattern: str,
    rows: int,
    cols: int,
    name: str = "",
    role: str = "other",
    block: int = -1,
    nnz: int | None = None,
) -> Row:
    """A layer as a record's header keeps it, of which no more than the shape and the pattern are known."""
    kept = kept_of_four(pattern)
    return {
        "name": name or f"{rows}x{cols}", "role": role, "block": block, "out_features": rows, "in_features": cols,
        "pattern": pattern, "nnz": rows * cols * kept // 4 if kept else nnz, "mask_sha256": "", "model": model,
        "method": "generated", "target_sparsity": None, "seed": 0,
    }  # fmt: skip


def layer_facts(layer: dict[str, Any], case: Case) -> Row:
    """The columns of linear_facts, of a layer in a record's header."""
    rows, cols, nnz = case["out_features"], case["in_features"], layer.get("nnz")
    own, asked = layer.get("pattern", case["pattern"]), layer.get("target_sparsity")
    pattern, unpruned = layer.get("run_pattern", own), layer.get("unpruned")
    if layer.get("pattern") == ANY:  # of each kernel's own mask
        pattern, kept = case["pattern"], kept_of_four(case["pattern"])
        density = kept / 4 if kept else case["density"]
        nnz, asked = round(density * rows * cols), 1 - density if pattern != DENSE else None
    return {
        "model": layer.get("model", ""),
        "method": layer.get("method", ""),
        "pattern": pattern,
        "layer_pattern": own if "run_pattern" in layer else "",
        "target_sparsity": asked,
        "layer": layer.get("name", ""),
        "block": layer.get("block", -1),
        "role": layer.get("role", "other"),
        "out_features": rows,
        "in_features": cols,
        "unpruned_out_features": unpruned[0] if unpruned else None,
        "unpruned_in_features": unpruned[1] if unpruned else None,
        "nnz": nnz,
        "sparsity": None if nnz is None else 1 - nnz / math.prod(unpruned or (rows, cols)),
        "mask_sha256": layer.get("mask_sha256", ""),
        "seed": layer.get("seed"),
        "tool_version": __version__,
    }
