"""Perplexity, or a network's own number, as a quality row."""

import pandas as pd

from checkpoints.opened import OpenModel
from pruning.config import EvaluationConfig
from pruning.families import family_of
from pruning.forward.hidden_states import Progress
from studies.prune import model_name
from workloads import __version__
from workloads.bundle import MaskBundle
from workloads.columns.networks import NETWORK_COLUMNS
from workloads.columns.quality import QUALITY_COLUMNS
from workloads.rows import to_frame


def evaluate(
    checkpoint: OpenModel,
    model: str,
    masks: MaskBundle | None,
    asked: EvaluationConfig,
    progress: Progress,
) -> pd.DataFrame:
    """One row: how good a model is, with masks if given: its perplexity over whole windows of a text and what masks
    change where `compare` asks for it, or a network's own number."""
    found = family_of(checkpoint).quality(checkpoint, masks, asked, progress)
    row = {
        "model": model_name(model),
        "method": masks.header.method if masks else "dense",
        "pattern": masks.header.pattern if masks else "unstructured",
        "target_sparsity": masks.header.target_sparsity if masks else None,
        "sparsity": masks.sparsity if masks else None,
        "weight_bits": mean_bits(masks) if masks else None,
        **found.facts,
        "dtype": str(checkpoint.dtype).removeprefix("torch."),
        "seed": masks.header.seed if masks else None,
        "tool_version": __version__,
    }
    return to_frame([row], QUALITY_COLUMNS, () if "perplexity" in found.facts else NETWORK_COLUMNS)


def mean_bits(masks: MaskBundle) -> float | None:
    """Over all weights; None unless every layer is quantized, by weights that the bundle itself holds."""
    if any(entry.weight_bits is None or not entry.values for entry in masks.layers):
        return None
    bits = sum(entry.layer.n_weights * (entry.weight_bits or 0) for entry in masks.layers)
    return bits / sum(entry.layer.n_weights for entry in masks.layers)
