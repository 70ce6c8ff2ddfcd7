"""CFSP (methods 6): FFN neurons go; how many of a block by how far it turns its hidden states (coarse), which of them
by a score of each (fine). One dense pass, no change of the weights that stay.

Coarse: I_i, the sum over calibration tokens of `importance`; w_i = 1 / (1 + exp(-slope (m_i - mean m))) with m_i = I_i
/ tokens; block i keeps (1 - sparsity) w_i / mean(w). Where that is above 1, deviations shrink until it is not.
Fine, of neuron j with x_j the norm of down's input (methods 0.5): `activation`, x_j, which is what the released score
comes to: its weights cancel; `row-relative`, sum over the rows of |Wd| x, |Wu|, |Wg|, each normalised over the neurons,
times x_j; `wanda`, mean_i |Wd_ij| x_j (the released wanda_base); `magnitude`, the norm of down's column.

Deviations: the released slope is a x tokens / 1e4, 13.1 at its 128 x 1024 tokens, and moves with their number; here it
stays. Counts are exact over the model; count=released keeps int(f x share) + 1 neurons of a block, or with multiple_of
128 x floor((f x share + 64) / 128). A cosine that rounding puts above 1 is clamped; the released program takes NaN from
it and stops.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from pruning.evidence.needs import Need
from pruning.methods.structured.method import UNITS, StructuredMethod
from pruning.structured.choice import scored
from pruning.structured.evidence import BlockEvidence
from pruning.structured.scores import ScoredBlock
from pruning.structured.units import UnitGroup
from workloads.errors import NotForThisModel

LEAST_ABOVE = 1.05  # the released shrinking of deviations leaves so much room


@dataclass(frozen=True)
class Cfsp(StructuredMethod):
    name = "cfsp"
    needs = frozenset({Need.ENERGY})

    score: Literal["activation", "row-relative", "wanda", "magnitude"] = "activation"  # type: ignore[assignment]
    importance: Literal["angular", "cosine", "mse", "mae", "uniform"] = "angular"
    slope: float = 13.1
    count: Literal["exact", "released"] = "exact"

    @property
    def kinds(self) -> frozenset[str]:
        return UNITS["ffn"]

    def scores(self, group: UnitGroup, weights: Mapping[str, torch.Tensor], evidence: BlockEvidence) -> torch.Tensor:
        name = group.output.layer.name
        norm = evidence.norm(name, group.count)
        down = weights[name].double().abs()
        if self.score == "magnitude":
            return down.square().sum(dim=0).sqrt()
        if self.score == "wanda":
            return down.mean(dim=0) * norm
        if self.score == "row-relative":
            return _row_relative(group, weights, down * norm) * norm
        return norm

    def keep(self, blocks: list[ScoredBlock], sparsity: float, multiple_of: int) -> dict[str, float]:
        of_block = {block.number: share for block, share in zip(blocks, self.shares(blocks, sparsity), strict=True)}
        found = {}
        for group, _ in scored(blocks):
            wanted = group.count * of_block[group.block]
            if self.count == "released":
                wanted = float(int(wanted) + 1)
                if multiple_of > 1:
                    half = multiple_of / 2
                    wanted = multiple_of * ((group.count * of_block[group.block] + half) // multiple_of)
                wanted = min(wanted or group.count, group.count)
            found[group.key] = wanted
        return found

    def shares(self, blocks: list[ScoredBlock], sparsity: float) -> list[float]:
        """What every block keeps of its neurons (methods 6.1)."""
        if self.importance == "uniform":
            return [1 - sparsity] * len(blocks)
        mean = np.array([block.importance[self.importance] / block.tokens for block in blocks])
        if np.isnan(mean).any():
            raise NotForThisModel(
                f"cfsp: units that change the shape of states have no {self.importance} importance; use "
                "importance=uniform"
            )
        weight = 1 / (1 + np.exp(-self.slope * (mean - mean.mean())))
        kept, middle = 1 - sparsity, weight.mean()
        if kept > 0 and weight.max() / middle * kept >= 1 and weight.max() > middle:
            room = middle * (1 / kept - 1) / (weight.max() - middle) / LEAST_ABOVE
            weight = middle + (weight - middle) * room
        return list(kept * weight / weight.mean())


def _row_relative(group: UnitGroup, weights: Mapping[str, torch.Tensor], down: torch.Tensor) -> torch.Tensor:
    """(count,) means over the hidden size of each matrix's entries, as shares of their sum over the neurons."""
    total = (down / down.sum(dim=1, keepdim=True).clamp(min=1e-30)).mean(dim=0)
    for ref, unit in group.members:
        rows = weights[ref.layer.name].double().abs()
        share = (rows / rows.sum(dim=0, keepdim=True).clamp(min=1e-30)).mean(dim=1)
        total = total.index_add(0, torch.from_numpy(unit), share)
    return total
