"""Second-order structured pruning: units go by the optimal brain surgeon, and what stays takes over (methods 7.7).

Of the inputs x of o or down, G = sum_t x x^T + damping. The unit S whose removal costs least, trace(W_S (G^-1_SS)^-1
W_S^T), goes, the other columns and G^-1 are updated, and again (Frantar et al.; ZipLM, Kurtic et al. 2023): one sweep
orders all units. `block` neurons go at a time. Of the units that stay the least-squares weights are then computed anew.
The same share of every group goes, block by block, each on what the pruned ones before it produce, which its weights
then make up for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge

from pruning.evidence.needs import Need
from pruning.methods.structured.method import UNITS, StructuredMethod
from pruning.second_order.groups import adjacent, exact, sweep
from pruning.structured.choice import scored, uniform
from pruning.structured.evidence import BlockEvidence
from pruning.structured.scores import ScoredBlock
from pruning.structured.units import UnitGroup
from workloads.errors import NotForThisModel, UserError
from workloads.removal import NEURON


@dataclass(frozen=True)
class ObsSp(StructuredMethod):
    name = "obs-sp"
    changes_weights = True
    needs = frozenset({Need.HESSIAN})

    units: Literal["all", "ffn", "heads"] = "all"
    damp: Annotated[float, Ge(0)] = 0.01
    block: Annotated[int, Ge(1)] = 32

    @property
    def kinds(self) -> frozenset[str]:
        return UNITS[self.units]

    @property
    def propagates(self) -> bool:
        return True

    def scores(self, group: UnitGroup, weights: Mapping[str, torch.Tensor], evidence: BlockEvidence) -> torch.Tensor:
        """The place of every unit in the order in which they go."""
        name = group.output.layer.name
        block = self.block if group.kind == NEURON else 1
        try:
            found = sweep(
                weights[name], evidence.hessian(name), adjacent(group.output.layer.in_features, group.features),
                (), self.damp, block,
            )  # fmt: skip
        except NotForThisModel:
            raise
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        places = torch.empty(group.count, dtype=torch.float64)
        places[found.order] = torch.arange(group.count, dtype=torch.float64)
        return places

    def update(
        self, group: UnitGroup, weight: torch.Tensor, evidence: BlockEvidence, kept: torch.Tensor
    ) -> torch.Tensor:
        name = group.output.layer.name
        return exact(weight, evidence.hessian(name), kept.repeat_interleave(group.features), self.damp)

    def keep(self, blocks: list[ScoredBlock], sparsity: float, multiple_of: int) -> dict[str, float]:
        return uniform(scored(blocks), sparsity)
