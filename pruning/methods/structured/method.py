"""What a structured method is: a class of its own file that scores units and says how many of each group stay."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from pruning.methods.method import PruningMethod
from pruning.structured.evidence import BlockEvidence
from pruning.structured.problem import Kept, UnitProblem
from pruning.structured.scores import ScoredBlock
from pruning.structured.units import UnitGroup
from workloads.errors import unwritten
from workloads.patterns import SMALLER
from workloads.removal import KV_GROUP, NEURON

UNITS = {"all": frozenset({KV_GROUP, NEURON}), "ffn": frozenset({NEURON}), "heads": frozenset({KV_GROUP})}


@dataclass(frozen=True)
class StructuredMethod(PruningMethod):
    """`sparsity` is the share of its units' weights that goes, or of its units where it prunes one kind."""

    rules: ClassVar[tuple[str, ...]] = ("units",)
    leaves = SMALLER
    trial_settings: ClassVar[Mapping[str, Any]] = {}  # with which its laws are checked in seconds

    def check_blocks(self, count: int, sparsity: float) -> None:
        """Raises NotForThisModel for a target that a model of `count` blocks cannot reach, before anything is read."""

    @property
    def kinds(self) -> frozenset[str]:
        """Of units: KV_GROUP, NEURON; empty for whole blocks."""
        return UNITS["all"]

    @property
    def tries(self) -> frozenset[str]:
        """Kinds of parts of the model (pruning/structured/sublayers.py) that go one by one, each round the one without
        which the calibration text's loss is least; blocks alone, or sub-layers. Empty: the method scores units."""
        return frozenset()

    @property
    def propagates(self) -> bool:
        """Whether a block sees what the pruned blocks before it produce; `keep` then gets one block at a time."""
        return False

    @property
    def compensates(self) -> bool:
        """Whether the mean of what is taken out becomes a bias."""
        return False

    @property
    def searches(self) -> bool:
        """Whether `search` has the last word on what stays."""
        return False

    @property
    def drops_blocks(self) -> bool:
        """Whether `search` may leave a block without units, so that it goes whole."""
        return False

    @property
    def fills(self) -> bool:
        """Whether `search` wants X^T X of the inputs of outputs: `hessians` of its blocks."""
        return False

    @property
    def reforms(self) -> bool:
        """Whether `update` gives new weights once all is decided, block by block on what the pruned ones before it
        produce."""
        return False

    @property
    def wants_released_fluctuation(self) -> bool:
        return False

    def scores(self, group: UnitGroup, weights: Mapping[str, torch.Tensor], evidence: BlockEvidence) -> torch.Tensor:
        """(count,) float64 of a group's units, low goes first. weights: (out, in) float32 by name."""
        raise unwritten(self, "scores")

    def update(
        self, group: UnitGroup, weight: torch.Tensor, evidence: BlockEvidence, kept: torch.Tensor
    ) -> torch.Tensor | None:
        """New weights (out, in) float32 of the output of a group whose units `kept` (count,) stay; None: they stay as
        they are. Of methods that propagate or reform."""
        return None

    def keep(self, blocks: list[ScoredBlock], sparsity: float, multiple_of: int) -> dict[str, float]:
        """By a group's key how many of its units should stay; whole numbers are made of it afterwards."""
        raise unwritten(self, "keep")

    def search(self, problem: UnitProblem) -> Kept:
        """The units that stay, found by the loss of the whole model; a block of which none stays goes whole. Not called
        where everything stays."""
        raise unwritten(self, "search")

    def held_apart(self, samples: int) -> int:
        """Of so many calibration sequences how many score no unit; `search` is given those, or all if it is 0."""
        return 0

    def gone(self, blocks: list[ScoredBlock], sparsity: float) -> frozenset[int]:
        """Numbers of blocks that go whole."""
        return frozenset()
