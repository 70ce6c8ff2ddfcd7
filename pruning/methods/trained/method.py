"""The base of methods that prune while the model trains: what they train on and how, and the hook that each gives."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge
from pydantic import Field

from pruning.block_job import BlockJob, Decision
from pruning.methods.method import Evidence, PruningMethod
from pruning.methods.trained.choosing import Choosing
from pruning.recovery.hook import Hook
from pruning.recovery.masked_weights import MaskedWeight


@dataclass(frozen=True)
class TrainedMethod(PruningMethod):
    """steps: of the optimizer, in all; batch: sequences (of other networks samples) of the calibration set in each,
    every one once before any twice. lr: the highest learning rate; none given: that of fine-tuning (methods 19.6).
    distill: also follow the dense model's `logits` or the outputs of its blocks, `layers`; other networks follow its
    outputs in any case. ramp: the share of the steps within which what goes rises to the target, the others recover
    under the final masks. scores: of a weight |w|, or |w| times the norm of its input in the dense model (Wanda's)."""

    steps: Annotated[int, Ge(1)] = 200
    batch: Annotated[int, Ge(1)] = 8
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    distill: Literal["none", "logits", "layers"] = "none"
    ramp: Annotated[float, Field(gt=0, le=1)] = 0.7
    scores: Literal["magnitude", "wanda"] = "magnitude"

    rules = ("layer", "row", "global")
    trains = True
    changes_weights = True
    trial_settings: ClassVar[Mapping[str, Any]] = {"steps": 4, "batch": 2, "lr": 0.01}

    @property
    def ramped(self) -> int:
        """Steps until the target is reached."""
        return max(1, round(self.ramp * self.steps))

    @abstractmethod
    def hook(self, choosing: Choosing, norms: Sequence[torch.Tensor | None]) -> Hook:
        """What acts on the weights. norms: (in,) float32 of every matrix, in the order of `choosing.refs`, None where
        nothing is known of its inputs."""

    def score(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        norm = evidence.feature_norm
        return weight.abs() if norm is None or self.scores == "magnitude" else weight.abs() * norm

    def decide(self, job: BlockJob) -> dict[str, Decision]:
        raise AssertionError("it is decided by training (pruning/run/trained.py)")


class ScoringHook(Hook):
    """A hook that compares the weights as they are, masked ones by the numbers behind their masks."""

    def __init__(self, method: TrainedMethod, choosing: Choosing, norms: Sequence[torch.Tensor | None]):
        self.method, self.choosing = method, choosing
        self.evidence = [Evidence(0, norm) for norm in norms]
        self.weights: Sequence[MaskedWeight] = ()

    def begin(self, weights: Sequence[MaskedWeight]) -> None:
        self.weights = weights

    def chosen(self, share: float) -> list[torch.Tensor]:
        """Masks when `share` of what has to go goes now."""
        values = [weight.free().detach() for weight in self.weights]
        found = [self.method.score(value, own) for value, own in zip(values, self.evidence, strict=True)]
        return self.choosing.keep(found, share)

    def tensors(self) -> dict[str, torch.Tensor]:
        return {f"{number:06d}": weight.keep for number, weight in enumerate(self.weights)}

    def take(self, tensors: Mapping[str, torch.Tensor]) -> None:
        for number, weight in enumerate(self.weights):
            weight.keep = tensors[f"{number:06d}"].to(weight.keep.device)
