"""Gradual pruning: masks grow while the model trains (methods 12.2).

Zhu and Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression", ICLR 2018 workshop.
From nothing to the target within the first `ramp` of the steps, s_k = s (1 - (1 - k / K)^3), at `updates` steps evenly
spread; each time the weights that score lowest are masked. As in the released program a masked weight gets no gradient
and keeps its number behind the mask, so that it comes back where others have fallen below it. After the ramp the masks
stay.

Adapted: it starts from a trained model, may score as Wanda does (`scores=wanda`, norms of the dense model's inputs,
gathered once), and follows any rule, N:M, allocation or plan, by taking the lowest of what that would take at the full
target. Adam's first moment of a masked weight is set to 0, so that it stays where it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge

from pruning.methods.trained.choosing import Choosing
from pruning.methods.trained.method import ScoringHook, TrainedMethod
from pruning.recovery.cubic import risen
from pruning.recovery.hook import Hook


@dataclass(frozen=True)
class Gradual(TrainedMethod):
    name = "gradual"

    updates: Annotated[int, Ge(1)] = 20

    def hook(self, choosing: Choosing, norms: Sequence[torch.Tensor | None]) -> Hook:
        return GrowingMasks(self, choosing, norms)


class GrowingMasks(ScoringHook):
    def after(self, done: int, optimizer: torch.optim.Optimizer) -> None:
        method, last = self.method, self.method.ramped
        assert isinstance(method, Gradual)
        every = max(1, last // method.updates)
        if done > last or (done % every and done != last):
            return
        for weight, keep in zip(self.weights, self.chosen(risen(done, last)), strict=True):
            weight.keep = keep
            for leaf in weight.parameters:
                optimizer.state[leaf]["exp_avg"].masked_fill_(~keep, 0.0)
