"""Wanda-sp: Wanda's score summed over whole units, the baseline of FLAP and CFSP (methods 7.4).

Of feature j of an output (o or down): mean_r |W_rj| sqrt(a_j) (methods 0.5); a unit's score is the sum over its
features. structure=uniform removes the same share in every block, each seeing what the pruned blocks before it produce,
as FLAP's baseline does; structure=global standardises scores in their block and cuts one threshold through the whole
model, on dense inputs, as CFSP's baseline does for FFNs (units=ffn). No bias, no change of weights. count=released
takes f - int(share x f) units per group.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from pruning.evidence.needs import Need
from pruning.methods.structured.method import UNITS, StructuredMethod
from pruning.structured.choice import cheapest, scored, standardized, uniform
from pruning.structured.evidence import BlockEvidence
from pruning.structured.scores import ScoredBlock
from pruning.structured.units import UnitGroup


@dataclass(frozen=True)
class WandaSp(StructuredMethod):
    name = "wanda-sp"
    needs = frozenset({Need.ENERGY})

    structure: Literal["uniform", "global"] = "uniform"
    units: Literal["all", "ffn", "heads"] = "all"
    count: Literal["exact", "released"] = "exact"

    @property
    def kinds(self) -> frozenset[str]:
        return UNITS[self.units]

    @property
    def propagates(self) -> bool:
        return self.structure == "uniform"

    def scores(self, group: UnitGroup, weights: Mapping[str, torch.Tensor], evidence: BlockEvidence) -> torch.Tensor:
        name = group.output.layer.name
        each = weights[name].double().abs().mean(dim=0) * evidence.norm(name, group.output.layer.in_features)
        score = each.reshape(group.count, -1).sum(dim=1)
        return standardized(score) if self.structure == "global" else score

    def keep(self, blocks: list[ScoredBlock], sparsity: float, multiple_of: int) -> dict[str, float]:
        groups = scored(blocks)
        if self.structure == "global":
            return cheapest(groups, sparsity)
        if self.count == "released":
            return {group.key: float(group.count - int(sparsity * group.count)) for group, _ in groups}
        return uniform(groups, sparsity)
