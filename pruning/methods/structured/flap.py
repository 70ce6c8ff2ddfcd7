"""FLAP (methods 7): units whose features fluctuate least go, and the mean of what they gave becomes a bias.

Of feature j of an output (o or down): ifv, the variance of its input; wifv, that times the squared norm of the
output's column j; wifn, the mean of the column's |W| times the norm of the input (no fluctuation). Attention takes the
square of the metric, an FFN the metric itself (square_attention). `structure`: ul-um, the same share of kv groups and
of neurons in every block; ul-mm, `remove_heads` query heads in all, the same in every block, and neurons for the rest
of the budget; al-mm, likewise over all blocks, ranked together; al-am, kv groups and neurons of all blocks in one
ranking, weights counted. Adaptive (al) scores are standardised in their block, a kv group's is the mean over its
features; uniform ones are sums. Bias: b + W[:, removed] mean, from the dense model's inputs.

Deviations: under grouped-query attention whole kv groups go. The variance is the true one; fluctuation=released is the
released program's, which depends on the order of sequences. Counts come nearest to the budget with the exact weights of
units; count=released takes f - int(share x f) per block, and one unit fewer than the nearest in al-am, a head costing
int(4 x head size / 3) neurons. The bias is added to one that is there, where the program overwrites it.
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
from workloads.errors import UserError
from workloads.removal import KV_GROUP, NEURON


@dataclass(frozen=True)
class Flap(StructuredMethod):
    name = "flap"
    needs = frozenset({Need.ENERGY})

    metric: Literal["wifv", "wifn", "ifv"] = "wifv"
    structure: Literal["ul-um", "ul-mm", "al-mm", "al-am"] = "al-am"
    units: Literal["all", "ffn", "heads"] = "all"
    remove_heads: int = 0
    bias: bool = True
    square_attention: bool = True
    fluctuation: Literal["variance", "released"] = "variance"
    count: Literal["exact", "released"] = "exact"

    @property
    def kinds(self) -> frozenset[str]:
        return UNITS[self.units]

    @property
    def compensates(self) -> bool:
        return self.bias

    @property
    def wants_released_fluctuation(self) -> bool:
        return self.fluctuation == "released"

    def check(self, sparsity: float) -> None:
        given = self.structure in ("ul-mm", "al-mm")
        if given != (self.remove_heads > 0):
            raise UserError(
                f"flap: structure {self.structure} {'needs' if given else 'has no use for'} `remove_heads`, the number "
                "of query heads to remove in all"
            )
        if given and self.units != "all":
            raise UserError(f"flap: structure {self.structure} removes heads and neurons; leave `units` at all")

    def scores(self, group: UnitGroup, weights: Mapping[str, torch.Tensor], evidence: BlockEvidence) -> torch.Tensor:
        name = group.output.layer.name
        features = group.output.layer.in_features
        column = weights[name].double()
        if self.metric == "wifn":
            metric = column.abs().mean(dim=0) * evidence.norm(name, features)
        else:
            metric = self._fluctuation(evidence, name, features)
            if self.metric == "wifv":
                metric = metric * column.square().sum(dim=0)
        if group.kind == KV_GROUP and self.square_attention:
            metric = metric.square()
        if self.structure.startswith("al"):
            return standardized(metric).reshape(group.count, -1).mean(dim=1)
        return metric.reshape(group.count, -1).sum(dim=1)

    def _fluctuation(self, evidence: BlockEvidence, name: str, features: int) -> torch.Tensor:
        if self.fluctuation == "released":
            if name not in evidence.fluctuations:
                raise UserError(
                    f"flap: `fluctuation=released` is of sequences, which {name} does not see; use variance"
                )
            return evidence.fluctuations[name].value
        return evidence.variance(name, features)

    def keep(self, blocks: list[ScoredBlock], sparsity: float, multiple_of: int) -> dict[str, float]:
        groups = scored(blocks)
        if self.structure == "al-am":
            released = self.count == "released"
            costs = {g.key: _released_cost(g) for g, _ in groups} if released else None
            return cheapest(groups, sparsity, released, costs)
        if self.structure == "ul-um":
            return (
                {g.key: float(g.count - int(sparsity * g.count)) for g, _ in groups}
                if self.count == "released"
                else uniform(groups, sparsity)
            )
        return self._heads_given(blocks, groups, sparsity)

    def _heads_given(self, blocks: list[ScoredBlock], groups: list, sparsity: float) -> dict[str, float]:
        heads, neurons = scored(blocks, KV_GROUP), scored(blocks, NEURON)
        in_all = sum(group.count for group, _ in heads)
        queries = [group.features // _head_size(group) for group, _ in heads]
        units = self.remove_heads / queries[0]
        if units >= in_all:
            raise UserError(
                f"flap: `remove_heads` {self.remove_heads} is all of the model's {in_all * queries[0]} heads"
            )
        if self.structure == "ul-mm":
            each = self.remove_heads // len(heads) // queries[0] if self.count == "released" else units / len(heads)
            kept = {group.key: max(1.0, group.count - each) for group, _ in heads}
        else:
            kept = cheapest(heads, units / in_all)
        whole = sum(group.count * group.unit_weights for group, _ in groups)
        by_heads = sum((group.count - kept[group.key]) * group.unit_weights for group, _ in heads)
        of_neurons = sum(group.count * group.unit_weights for group, _ in neurons)
        share = (sparsity * whole - by_heads) / of_neurons
        if not 0 <= share < 1:
            raise UserError(
                f"flap: {self.remove_heads} heads are {by_heads / whole:.1%} of the weights, which leaves "
                f"{share:.1%} of the neurons to remove for a sparsity of {sparsity:.1%}; change `remove_heads`"
            )
        return kept | (uniform(neurons, share) if self.structure == "ul-mm" else cheapest(neurons, share))


def _head_size(group: UnitGroup) -> int:
    """Of the keys: rows of v (or k) of one unit; of a fused matrix what its rows leave beside the queries'."""
    rows = sum(len(unit) for _, unit in group.members) // group.count
    return (rows - group.features) // 2


def _released_cost(group: UnitGroup) -> float:
    """In neurons, of a kv group with all its query heads."""
    return float(int(4 * group.features / 3)) if group.kind == KV_GROUP else 1.0
