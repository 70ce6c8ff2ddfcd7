"""Perplexity as a quality row."""

from pathlib import Path

import pandas as pd

from checkpoints.checkpoint import Checkpoint
from pruning.config import EvaluationConfig
from pruning.data.calibration import DEFAULT_SEQ_LEN, check_ids, ids_sha256, windows
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
    """One row: the perplexity of a model over whole windows of a text, with masks if given."""
    text, seq_len = asked.text or "", DEFAULT_SEQ_LEN if asked.seq_len is None else asked.seq_len
    ids = windows(text, checkpoint.folder, seq_len, asked.windows)
    check_ids(ids, checkpoint.config, text)
    row = {
        "model": model_name(model),
        "method": masks.header.method if masks else "dense",
        "pattern": masks.header.pattern if masks else "unstructured",
        "target_sparsity": masks.header.target_sparsity if masks else None,
        "sparsity": masks.sparsity if masks else None,
        "weight_bits": mean_bits(masks) if masks else None,
        "perplexity": perplexity(checkpoint, ids, masks, progress),
        "windows": len(ids),
        "seq_len": seq_len,
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
