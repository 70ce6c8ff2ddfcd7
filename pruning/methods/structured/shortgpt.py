"""ShortGPT (Men et al. 2024): whole blocks go, those that change hidden states least.

Block influence of block i: the mean over calibration tokens of 1 - cos(u, v), u its input and v its output in the dense
model. `sparsity` is the share of blocks; the nearest whole number of them goes, the last block and the first included.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pruning.evidence.needs import Need
from pruning.methods.structured.method import StructuredMethod
from pruning.structured.evidence import BlockEvidence
from pruning.structured.scores import ScoredBlock
from pruning.structured.units import UnitGroup


@dataclass(frozen=True)
class ShortGpt(StructuredMethod):
    name = "shortgpt"
    needs = frozenset({Need.ENERGY})

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset()

    def scores(self, group: UnitGroup, weights: Mapping[str, torch.Tensor], evidence: BlockEvidence) -> torch.Tensor:
        raise AssertionError("it has no units")

    def keep(self, blocks: list[ScoredBlock], sparsity: float, multiple_of: int) -> dict[str, float]:
        return {}

    def gone(self, blocks: list[ScoredBlock], sparsity: float) -> frozenset[int]:
        least = sorted(blocks, key=lambda block: (block.influence, block.number))
        return frozenset(block.number for block in least[: round(sparsity * len(blocks))])
