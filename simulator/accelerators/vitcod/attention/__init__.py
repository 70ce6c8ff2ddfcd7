"""Sparse attention, SDDMM and SpMM, on the ViTCoD machines: their table, and whether a name is of it."""

from pathlib import Path
from typing import TYPE_CHECKING

from simulator.machine.files import based_on, is_machine_file
from workloads.lazily import Lazily

if TYPE_CHECKING:
    from simulator.accelerators.vitcod.attention.target import AttentionModel

__all__ = ["ATTENTION_MODELS", "is_attention"]

ATTENTION_MODELS: "Lazily[AttentionModel]" = Lazily(
    {
        "vitcod-attention-paper": "simulator.accelerators.vitcod.attention.target:PAPER",
        "vitcod-attention": "simulator.accelerators.vitcod.attention.target:CYCLE",
    }
)


def is_attention(name: str) -> bool:
    """Whether a name means a machine of attention; a machine file is what it is based on."""
    if is_machine_file(name):
        return any(base in ATTENTION_MODELS for base in based_on(Path(name)))
    return name in ATTENTION_MODELS
