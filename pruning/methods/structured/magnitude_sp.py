"""Magnitude-sp: the norms of the columns of o and down, summed over whole units; the same share of every group goes.
No data. count=released takes f - int(share x f) units per group."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from pruning.methods.structured.method import UNITS, StructuredMethod
from pruning.structured.choice import scored, uniform
from pruning.structured.evidence import BlockEvidence
from pruning.structured.scores import ScoredBlock
from pruning.structured.units import UnitGroup


@dataclass(frozen=True)
class MagnitudeSp(StructuredMethod):
    name = "magnitude-sp"

    units: Literal["all", "ffn", "heads"] = "all"
    count: Literal["exact", "released"] = "exact"

    @property
    def kinds(self) -> frozenset[str]:
        return UNITS[self.units]

    def scores(self, group: UnitGroup, weights: Mapping[str, torch.Tensor], evidence: BlockEvidence) -> torch.Tensor:
        norms = weights[group.output.layer.name].double().square().sum(dim=0).sqrt()
        return norms.reshape(group.count, -1).sum(dim=1)

    def keep(self, blocks: list[ScoredBlock], sparsity: float, multiple_of: int) -> dict[str, float]:
        groups = scored(blocks)
        if self.count == "released":
            return {group.key: float(group.count - int(sparsity * group.count)) for group, _ in groups}
        return uniform(groups, sparsity)
