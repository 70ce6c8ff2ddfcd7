"""Taylor-sp: units go whose removal changes the loss least, as its derivatives say (methods 7.8).

Ma, Fang, Wang, "LLM-Pruner: On the Structural Pruning of Large Language Models", NeurIPS 2023. Of a weight w of a unit,
with g the gradient of the mean next-token cross-entropy of the calibration text in the dense model, and F the mean over
its sequences of the squared gradient of one (Fisher's diagonal, in the place of the Hessian's):

    s = w g (order=first)      s = w^2 F (second)      s = w g - w^2 F / 2 (mix)

form=element: sum |s| over the weights that a unit has in one matrix; form=vector: sum over its rows (of an output, its
columns) of |sum s|. `aggregation` of a unit's matrices (q, k, v, o; gate, up, down): their sum, product, largest, or
the output's alone (last). ranking=block: the same share of every group goes; global: the units of all blocks in one
ranking of loss a weight, weights counted, the best of every group stays. The first `skip_first` and the last
`skip_last` blocks lose nothing, and the others so much more that the model's share is the one asked for.

Deviations: the released program takes the asked share from the blocks that it prunes (blocks 4 to 29 of 32: 25 % of
them are 20 % of the model); the same here is that share of the whole, `skip_first=4` and `skip_last=2`. It calibrates
on 10 sequences of 64 tokens, whatever the model; g of much text is near 0 in a trained model, so more is not always
better. It aggregates rows before heads are made of them, ours whole units, which differs for prod and max alone and
lets q have more rows than k. A fused matrix counts as one. A mean of matrices orders like their sum and is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge

from pruning.evidence.needs import Need
from pruning.methods.structured.method import UNITS, StructuredMethod
from pruning.structured.choice import Scored, cheapest, scored, uniform
from pruning.structured.evidence import BlockEvidence
from pruning.structured.scores import ScoredBlock
from pruning.structured.units import UnitGroup
from workloads.errors import NotForThisModel, UserError


@dataclass(frozen=True)
class TaylorSp(StructuredMethod):
    name = "taylor-sp"

    form: Literal["element", "vector"] = "element"
    order: Literal["first", "second", "mix"] = "first"
    aggregation: Literal["sum", "prod", "max", "last"] = "sum"
    ranking: Literal["block", "global"] = "block"
    units: Literal["all", "ffn", "heads"] = "all"
    skip_first: Annotated[int, Ge(0)] = 0
    skip_last: Annotated[int, Ge(0)] = 0

    @property
    def kinds(self) -> frozenset[str]:
        return UNITS[self.units]

    @property
    def needs(self) -> frozenset[Need]:
        first, second = {Need.GRADIENTS_SUM}, {Need.GRADIENTS_L2}
        return frozenset({"first": first, "second": second, "mix": first | second}[self.order])

    def check(self, sparsity: float) -> None:
        if self.ranking == "global" and self.aggregation == "prod":
            raise UserError(
                "taylor-sp: products of 3 and of 4 matrices do not compare, so `aggregation=prod` has no "
                "`ranking=global`; use sum, max or last"
            )

    def check_blocks(self, count: int, sparsity: float) -> None:
        left = count - self.skip_first - self.skip_last
        if left < 1 or sparsity * count >= left:
            raise NotForThisModel(
                f"taylor-sp: {count} blocks less `skip_first` {self.skip_first} and `skip_last` {self.skip_last} "
                f"leave {max(left, 0)}, which cannot lose {sparsity:.1%} of all; lower them or `sparsity`"
            )

    def scores(self, group: UnitGroup, weights: Mapping[str, torch.Tensor], evidence: BlockEvidence) -> torch.Tensor:
        """What the loss changes by, by unit; of a product, its terms multiplied."""
        parts = []
        for ref, unit in group.members:
            rows = self._along(self._salience(ref.layer.name, weights, evidence), 1)
            parts.append(torch.zeros(group.count, dtype=torch.float64).index_add_(0, torch.from_numpy(unit), rows))
        columns = self._along(self._salience(group.output.layer.name, weights, evidence), 0)
        parts.append(columns.reshape(group.count, group.features).sum(dim=1))
        together = torch.stack(parts)
        if self.aggregation == "last":
            return together[-1]
        if self.aggregation == "max":
            return together.max(dim=0).values
        return together.prod(dim=0) if self.aggregation == "prod" else together.sum(dim=0)

    def keep(self, blocks: list[ScoredBlock], sparsity: float, multiple_of: int) -> dict[str, float]:
        pruned = blocks[self.skip_first : len(blocks) - self.skip_last]
        groups, own = scored(blocks), scored(pruned)
        share = sparsity * _weights(groups) / _weights(own)
        if share >= 1:
            raise NotForThisModel(
                f"taylor-sp: the blocks that `skip_first` and `skip_last` leave hold {_weights(own):,} of the "
                f"{_weights(groups):,} weights, which cannot lose {sparsity:.1%} of all; lower them or `sparsity`"
            )
        whole = {group.key: float(group.count) for group, _ in groups}
        if self.ranking == "block":
            return whole | uniform(own, share)
        return whole | cheapest([(group, score / group.unit_weights) for group, score in own], share)

    def _salience(self, name: str, weights: Mapping[str, torch.Tensor], evidence: BlockEvidence) -> torch.Tensor:
        """(out, in) float32: what a weight takes off the loss."""
        weight, samples = weights[name], evidence.samples
        first = second = torch.zeros(())
        if self.order != "second":
            first = weight * (evidence.gradients["sum"][name].to(weight.device) / samples)
        if self.order != "first":
            norm = evidence.gradients["l2"][name].to(weight.device)
            second = (weight * norm).square() / samples
        return {"first": first, "second": second, "mix": first - second / 2}[self.order]

    def _along(self, salience: torch.Tensor, axis: int) -> torch.Tensor:
        """Summed along an axis, float64, on the CPU."""
        if self.form == "element":
            return salience.abs().sum(dim=axis, dtype=torch.float64).cpu()
        return salience.sum(dim=axis, dtype=torch.float64).abs().cpu()


def _weights(groups: Scored) -> int:
    return sum(group.count * group.unit_weights for group, _ in groups)
