"""What is kept of a block between the pass that scores its units and the choice among them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from pruning.structured.evidence import IMPORTANCES
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

    @property
    def step(self) -> float:
        """mean |v - u| / mean |u| over calibration tokens (methods 14.2)."""
        size = self.importance["size"]
        return self.importance["mae"] / size if size else 0.0


def as_scored(number: int, groups: list[UnitGroup], tensors: dict[str, torch.Tensor]) -> ScoredBlock:
    found: dict[str, dict[str, torch.Tensor]] = {"score": {}, "mean": {}, "hessian": {}}
    for key, tensor in tensors.items():
        what, _, name = key.partition("|")
        if what in found:
            found[what][name] = tensor
    importance = dict(zip(IMPORTANCES, tensors["importance"].tolist(), strict=True))
    scores, means, hessians = found.values()
    return ScoredBlock(number, tuple(groups), scores, importance, int(tensors["tokens"]), means, hessians)
