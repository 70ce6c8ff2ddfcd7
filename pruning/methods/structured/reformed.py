"""Reformation (methods 9.3): once it is decided what goes, o and down get new weights for what stays, block by block,
on what the pruned blocks before produce. A part of methods that choose units by other means.

exact: the least-squares weights W G_:K (G_KK)^-1, G = X^T X damped by `damp` of its mean diagonal; admm: `iterations`
steps towards them by ADMM, damped by `percdamp` of each input's own (pruning/second_order/admm.py).
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt

from pruning.methods.structured.method import StructuredMethod
from pruning.second_order.admm import ITERATIONS, PERCDAMP, RHO, admm
from pruning.second_order.groups import exact
from pruning.structured.evidence import BlockEvidence
from pruning.structured.units import UnitGroup


@dataclass(frozen=True)
class Reformed(StructuredMethod):
    changes_weights = True

    reform: Literal["exact", "admm", "none"] = "exact"
    damp: Annotated[float, Ge(0)] = 0.01
    rho: Annotated[float, Gt(0)] = RHO
    percdamp: Annotated[float, Ge(0)] = PERCDAMP
    iterations: Annotated[int, Ge(1)] = ITERATIONS

    @property
    def reforms(self) -> bool:
        return self.reform != "none"

    def update(
        self, group: UnitGroup, weight: torch.Tensor, evidence: BlockEvidence, kept: torch.Tensor
    ) -> torch.Tensor:
        hessian, columns = evidence.hessian(group.output.layer.name), kept.repeat_interleave(group.features)
        if self.reform == "admm":
            return admm(weight, hessian, columns, self.rho, self.percdamp, self.iterations)
        return exact(weight, hessian, columns, self.damp)
