"""What is kept of a block between the pass that scores its units and the choice among them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from pruning.structured.units import UnitGroup


@dataclass(frozen=True)
class ScoredBlock:
    """scores: by a group's key (count,) float64, low goes first; importance: per token, by IMPORTANCES; means: of the
    inputs of outputs, by name; hessians: likewise X^T X (in, in) float32, where the method asks for them."""

    number: int
    groups: tuple[UnitGroup, ...]
    scores: Mapping[str, torch.Tensor]
    importance: Mapping[str, float]
    tokens: int
    means: Mapping[str, torch.Tensor] = field(default_factory=dict)
    hessians: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @property
    def influence(self) -> float:
        """Mean over calibration tokens of 1 - cos(u, v), u its input and v its output (methods 7.5)."""
        return self.importance["cosine"] / self.tokens
