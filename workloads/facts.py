"""The columns of a result row that say what it is of, whatever the target."""

from typing import Any

from workloads import __version__
from workloads.bundle import BundleHeader
from workloads.operations import Linear
from workloads.routing import Load


def load_facts(load: Load) -> dict[str, Any]:
    """The columns that say how many of the tokens the layer gets."""
    return {
        "layer_tokens": load.tokens if load.executions else 0.0,
        "executions": load.executions,
        "routing": load.assumed,
    }


def header_facts(header: BundleHeader) -> dict[str, Any]:
    """The columns that say which run a row is of."""
    return {
        "model": header.model_id,
        "method": header.method,
        "pattern": header.pattern,
        "target_sparsity": header.target_sparsity,
        "seed": header.seed,
        "tool_version": __version__,
    }


def linear_facts(header: BundleHeader, linear: Linear) -> dict[str, Any]:
    """The columns that say which layer with which mask a row is of."""
    return {
        **header_facts(header),
        "layer_pattern": linear.weights.pattern if linear.weights.pattern != header.pattern else "",
        "layer": linear.name,
        "block": linear.block,
        "role": linear.role,
        "out_features": linear.out_features,
        "in_features": linear.in_features,
        "unpruned_out_features": linear.unpruned[0] if linear.unpruned else None,
        "unpruned_in_features": linear.unpruned[1] if linear.unpruned else None,
        "nnz": linear.weights.nnz,
        "sparsity": linear.sparsity,
        "mask_sha256": linear.weights.sha256,
    }
