"""Perplexity as a quality row."""

from pathlib import Path

import pandas as pd

from checkpoints.checkpoint import Checkpoint
from pruning.config import EvaluationConfig
from pruning.data.calibration import check_ids, ids_sha256, windows
from pruning.evaluation.against_dense import against_dense
from pruning.evaluation.perplexity import perplexity
from pruning.forward.hidden_states import Progress
from studies.prune import model_name
from workloads import __version__
from workloads.bundle import MaskBundle
from workloads.columns.quality import QUALITY_COLUMNS
from workloads.rows import to_frame


def evaluate(
    checkpoint: Checkpoint,
    model: str,
    masks: MaskBundle | None,
    asked: EvaluationConfig,
    progress: Progress,
) -> pd.DataFrame:
    """One row: the perplexity of a model over whole windows of a text, with masks if given, and then what they change
    where `compare` asks for it."""
    text = asked.text or ""
    ids = windows(text, checkpoint.folder, asked.seq_len, asked.windows)
    check_ids(ids, checkpoint.config, text)
    beside: dict[str, object] = {}
    if asked.compare and masks is not None:
        found = against_dense(checkpoint, ids, masks, progress)
        errors = " ".join(f"{error:.4g}" for error in found.block_errors)
        beside = {"kl_divergence": found.kl, "top1_agreement": found.agreement, "block_errors": errors}
        value = found.perplexity
    else:
        value = perplexity(checkpoint, ids, masks, progress)
    row = {
        "model": model_name(model),
        "method": masks.header.method if masks else "dense",
        "pattern": masks.header.pattern if masks else "unstructured",
        "target_sparsity": masks.header.target_sparsity if masks else None,
        "sparsity": masks.sparsity if masks else None,
        "weight_bits": mean_bits(masks) if masks else None,
        "perplexity": value,
        **beside,
        "dtype": str(checkpoint.model.dtype).removeprefix("torch."),
        "windows": len(ids),
        "seq_len": ids.shape[1],
        "text": Path(text).name if Path(text).is_file() else text,
        "text_sha256": ids_sha256(ids),
        "seed": masks.header.seed if masks else None,
        "tool_version": __version__,
    }
    return to_frame([row], QUALITY_COLUMNS)


def mean_bits(masks: MaskBundle) -> float | None:
    """Over all weights; None unless every layer is quantized, by weights that the bundle itself holds."""
    if any(entry.weight_bits is None or not entry.values for entry in masks.layers):
        return None
    bits = sum(entry.layer.n_weights * (entry.weight_bits or 0) for entry in masks.layers)
    return bits / sum(entry.layer.n_weights for entry in masks.layers)
