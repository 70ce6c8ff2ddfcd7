"""Sparse attention, SDDMM and SpMM, on accelerators: attention masks go in, result rows come out."""

from simulator.accelerators.vitcod.attention.masks import AttentionMasks
from simulator.accelerators.vitcod.attention.rows import ATTENTION_MODELS, AttentionModel, simulate_attention

__all__ = ["ATTENTION_MODELS", "AttentionMasks", "AttentionModel", "simulate_attention"]
