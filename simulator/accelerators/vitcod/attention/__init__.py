"""Sparse attention, SDDMM and SpMM, on the ViTCoD machines."""

from simulator.accelerators.vitcod.attention.masks import AttentionMasks
from simulator.accelerators.vitcod.attention.target import (
    ATTENTION_MODELS,
    AttentionModel,
    AttentionTarget,
    model_rows,
    open_attention,
)

__all__ = ["ATTENTION_MODELS", "AttentionMasks", "AttentionModel", "AttentionTarget", "model_rows", "open_attention"]
