"""What a pruning method is: a class of its own file, with `score` or `decide`."""

from collections.abc import Set
from dataclasses import dataclass
from typing import ClassVar

import torch

from pruning.block_job import BlockJob, Decision
from pruning.component import Component
from pruning.evidence.needs import Need, check_needs
from workloads.errors import unwritten
from workloads.layers import Layer
from workloads.patterns import NofM


@dataclass(frozen=True)
class Evidence:
    """What is known of a matrix besides its weights, from `samples` sequences. feature_norm (in,) float32, sqrt(a) of
    methods 0.5; gradient (out, in) float32."""

    samples: int
    feature_norm: torch.Tensor | None = None
    gradient: torch.Tensor | None = None


@dataclass(frozen=True)
class PruningMethod(Component):
    """A method gives either `score`, or `decide` for a whole block at once.

    rules: what may be compared, the default first. joint: quantizers the method runs itself, inside its own
    optimisation; the others come after it. changes_weights: surviving weights change too. prunes: False if it keeps
    everything. leaves: the pattern of what it leaves, where that is no mask (workloads/patterns.py).
    """

    rules: ClassVar[tuple[str, ...]] = ("row",)
    joint: ClassVar[frozenset[str]] = frozenset()
    default_quantizer: ClassVar[str] = "rtn"
    changes_weights: ClassVar[bool] = False
    prunes: ClassVar[bool] = True
    leaves: ClassVar[str] = ""
    trains: ClassVar[bool] = False  # whether it is decided by training the whole model on the calibration set
    takes_costs: ClassVar[bool] = False  # whether it goes by what matrices cost on a machine, where a job says it

    @property
    def needs(self) -> Set[str]:
        """What a run must gather for it (pruning/evidence/needs.py)."""
        return frozenset()

    @property
    def together(self) -> int:
        """How many blocks in a row it decides at once, where it sees calibration data."""
        return 1

    @property
    def settles(self) -> bool:
        """Whether its own settings say how much goes, so that no sparsity is asked for."""
        return False

    @property
    def reorders(self) -> bool:
        """Whether it moves inputs between the runs of an N:M."""
        return False

    @property
    def scores_alone(self) -> bool:
        """Whether it decides by its scores, where they stand, so that what is pruned before can go first."""
        return type(self).decide is PruningMethod.decide

    @property
    def floors(self) -> bool:
        """Whether it counts as its released program does, instead of to the weight."""
        return getattr(self, "count", "exact") == "released"

    def check(self, sparsity: float) -> None:
        """Raises UserError for a target it cannot reach."""

    def check_pattern(self, pattern: NofM) -> None:
        """Raises UserError for an N:M that it cannot follow."""

    def training_sequences(self, samples: int) -> int:
        """On how many sequences it trains in a block, at most, of a calibration set of `samples`; 0: it trains
        nothing."""
        return 0

    def takes(self, layer: Layer) -> bool:
        """Whether it is for such a matrix at all; others stay dense, whatever is chosen."""
        return True

    def check_layer(self, layer: Layer) -> None:
        """Raises NotForThisModel for a chosen matrix whose sizes it cannot work with."""

    def promises(self, pattern: NofM | None) -> NofM | None:
        """The N:M that its masks follow where `pattern` was asked for, None if none."""
        return pattern

    def score(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        """(out, in) float32 scores of a (out, in) float32 weight, low = pruned first."""
        raise unwritten(self, "score", "decide")

    def decide(self, job: BlockJob) -> dict[str, Decision]:
        """One Decision for every matrix of a block, by layer name: by the scores, unless the method says otherwise."""
        return {
            ref.layer.name: Decision(job.choose(ref, self.score(job.weight(ref), self.evidence(job, ref.layer.name))))
            for ref in job.refs
        }

    def evidence(self, job: BlockJob, name: str) -> Evidence:
        """What it needs to know of a matrix."""
        norm = gradient = None
        if Need.ENERGY in check_needs(self.needs, f"method {self.name}"):
            assert job.moments is not None
            norm = job.moments.feature_norm(name)
            if norm is None:
                job.warn(f"{name}: {job.why_unseen(name)}; scored by magnitude")
        if job.gradients is not None:
            gradient = job.gradients[name].to(job.device)
        return Evidence(job.samples, norm, gradient)


def feature_norm_or_ones(weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
    """(in,) float32: 1 for every input where nothing is known of them, which leaves the magnitude."""
    return torch.ones_like(weight[0]) if evidence.feature_norm is None else evidence.feature_norm
