"""BlockPruner (Zhong et al., "BlockPruner: Fine-grained Pruning for Large Language Models", 2024; methods 7.9): one
attention or FFN goes after the other, always the one without which the calibration text's perplexity is least.

remove=sublayers: attentions and FFNs compete; attention, ffn: one of both kinds; blocks: whole blocks. A round tries
every candidate out on the model as the rounds before left it, and the best of them goes, the later of equals.
`sparsity` is the share of the weights of all that is tried (of blocks: of their number). Candidates are those that
bring what is taken out nearer to it; when there is none, the search ends. A block without its attention and its FFN is
taken out whole.

Deviations: the released program asks for a number of sub-layers; it tries them out on 256 sequences of Alpaca. Norms
before a sub-layer that goes stay in the model, where nothing reads what they give.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from pruning.evidence.needs import Need
from pruning.methods.structured.method import StructuredMethod
from pruning.structured.evidence import BlockEvidence
from pruning.structured.scores import ScoredBlock
from pruning.structured.sublayers import ATTENTION, BLOCK, FFN
from pruning.structured.units import UnitGroup
from workloads.errors import NotForThisModel

TRIED = {
    "sublayers": frozenset({ATTENTION, FFN}),
    "attention": frozenset({ATTENTION}),
    "ffn": frozenset({FFN}),
    "blocks": frozenset({BLOCK}),
}


@dataclass(frozen=True)
class BlockPruner(StructuredMethod):
    name = "blockpruner"
    needs = frozenset({Need.ENERGY})

    remove: Literal["sublayers", "attention", "ffn", "blocks"] = "sublayers"

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset()

    @property
    def tries(self) -> frozenset[str]:
        return TRIED[self.remove]

    def check_blocks(self, count: int, sparsity: float) -> None:
        if self.remove == "blocks" and round(sparsity * count) == count:
            raise NotForThisModel(f"blockpruner: all {count} blocks would go; lower `sparsity`")

    def scores(self, group: UnitGroup, weights: Mapping[str, torch.Tensor], evidence: BlockEvidence) -> torch.Tensor:
        raise AssertionError("it has no units")

    def keep(self, blocks: list[ScoredBlock], sparsity: float, multiple_of: int) -> dict[str, float]:
        return {}
