"""Structured pruning whose counts were decided elsewhere: so many units of every group by obs-sp's order, or blocks by
their numbers. No method of a user's; a plan that meets a speed makes them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pruning.methods.structured.obs_sp import ObsSp
from pruning.methods.structured.shortgpt import ShortGpt
from pruning.structured.scores import ScoredBlock


@dataclass(frozen=True)
class CountedObsSp(ObsSp):
    """counts: units that stay, by the key of a group; groups without one stay whole."""

    counts: Mapping[str, int] = field(default_factory=dict)

    def keep(self, blocks: list[ScoredBlock], sparsity: float, multiple_of: int) -> dict[str, float]:
        groups = [group for block in blocks for group in block.groups]
        return {group.key: float(self.counts.get(group.key, group.count)) for group in groups}


@dataclass(frozen=True)
class GivenBlocks(ShortGpt):
    name = "given-blocks"

    blocks: tuple[int, ...] = ()

    def gone(self, blocks: list[ScoredBlock], sparsity: float) -> frozenset[int]:
        return frozenset(self.blocks)
