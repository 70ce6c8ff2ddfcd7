"""FFR, feature flow regularization: the model is trained to be short and straight, then units go (methods 14).

Wu, Lan, Zhang, Xiang, "Feature Flow Regularization: Improving Structured Sparsity in Deep Neural Networks", 2021. The
whole model trains for `steps` steps on the calibration set; beside the text's loss it pays for the length of the path
that hidden states take through the blocks, for its curvature, and for the activations inside FFNs. Then it is scored as
it is then:

    neurons, kv groups      sum over a unit's columns j of a_j ||W_:j||^2, W the output, a_j the energy of its input j
    blocks (units=blocks)   mean |v - u| / mean |u|, u their input, v their output: the relative length of their step

structure=global standardises scores in their block and cuts one threshold through the model (7.2), uniform takes the
same share in every block. length, curvature and activation are the shares of the loss that the terms start with.
steps=0 trains nothing: the lengths of steps alone are an importance of blocks.

Adapted: published for image networks trained from random weights, whose small filters go. Here a trained language model
is trained on, and states of all its blocks are linked. Terms on hidden states shrink what a block adds, not single
neurons; `activation` does that and is ours. Other networks are trained on by the distance to their unpruned selves, as
no labels are known (pruning/recovery/network_flow.py). What is left is not trained again: `finetune` does so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge
from pydantic import Field

from pruning.evidence.needs import Need
from pruning.methods.structured.method import UNITS, StructuredMethod
from pruning.structured.choice import cheapest, scored, standardized, uniform
from pruning.structured.evidence import BlockEvidence
from pruning.structured.scores import ScoredBlock
from pruning.structured.units import UnitGroup
from workloads.errors import NotForThisModel

Weight = Annotated[float, Ge(0)]


@dataclass(frozen=True)
class Ffr(StructuredMethod):
    name = "ffr"
    needs = frozenset({Need.ENERGY})
    trains = True
    trial_settings: ClassVar[Mapping[str, Any]] = {"steps": 2, "batch": 2, "lr": 0.01}

    steps: Annotated[int, Ge(0)] = 200
    batch: Annotated[int, Ge(1)] = 8
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    length: Weight = 0.01
    curvature: Weight = 0.01
    activation: Weight = 0.1
    structure: Literal["global", "uniform"] = "global"
    units: Literal["all", "ffn", "heads", "blocks"] = "all"

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset() if self.units == "blocks" else UNITS[self.units]

    def scores(self, group: UnitGroup, weights: Mapping[str, torch.Tensor], evidence: BlockEvidence) -> torch.Tensor:
        name = group.output.layer.name
        norm = evidence.norm(name, group.output.layer.in_features)
        each = norm.square() * weights[name].double().square().sum(dim=0)
        score = each.reshape(group.count, -1).sum(dim=1)
        return standardized(score) if self.structure == "global" else score

    def keep(self, blocks: list[ScoredBlock], sparsity: float, multiple_of: int) -> dict[str, float]:
        groups = scored(blocks)
        if not groups:
            return {}
        return cheapest(groups, sparsity) if self.structure == "global" else uniform(groups, sparsity)

    def gone(self, blocks: list[ScoredBlock], sparsity: float) -> frozenset[int]:
        if self.units != "blocks":
            return frozenset()
        if any(block.importance["mae"] != block.importance["mae"] for block in blocks):  # NaN
            raise NotForThisModel("ffr: units that change the shape of states have no length; use other units")
        least = sorted(blocks, key=lambda block: (block.step, block.number))
        return frozenset(block.number for block in least[: round(sparsity * len(blocks))])
