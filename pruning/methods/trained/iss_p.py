"""ISS-P: what shall go shrinks a little after every step, until it is cut (methods 12.1).

Iterative soft shrinkage by percentage (Wang, Wang, Zhang, Fu, Tao, "Iterative Soft Shrinkage Learning for Efficient
Image Super-Resolution", ICCV 2023). After each optimizer step the weights that score lowest now, as many as the target
says, are multiplied by gamma; they are chosen anew every step, so that a weight which grows comes back. At the end of
the ramp they are masked for good, and the rest of the steps recover under the mask. gamma=0 is iterative hard
thresholding. Adam's moments of shrunk weights are left as they are.

Adapted: published for image networks trained from random weights, over some 100,000 steps with the whole percentage
from the first (`anneal=none`). Here it starts from a trained model and takes few steps, so the percentage rises
cubically over the ramp (`anneal=cubic`); it counts to the weight under any rule, N:M, allocation or plan (published:
layers, and runs of N:M), has no cap of 99.5 % of a layer, and may score as Wanda does (`scores=wanda`). Thresholds are
exact, not estimated from a sample of a layer. A weight that is lowest throughout is left with gamma^steps of its size:
0.95^135 is 1e-3, so shorter ramps want a smaller gamma.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Lt

from pruning.methods.trained.choosing import Choosing
from pruning.methods.trained.method import ScoringHook, TrainedMethod
from pruning.recovery.cubic import risen
from pruning.recovery.hook import Hook


@dataclass(frozen=True)
class IssP(TrainedMethod):
    name = "iss-p"
    rules = ("row", "layer", "global")

    gamma: Annotated[float, Ge(0), Lt(1)] = 0.95
    anneal: Literal["cubic", "none"] = "cubic"

    def hook(self, choosing: Choosing, norms: Sequence[torch.Tensor | None]) -> Hook:
        return Shrinking(self, choosing, norms)


class Shrinking(ScoringHook):
    def after(self, done: int, optimizer: torch.optim.Optimizer) -> None:
        method, last = self.method, self.method.ramped
        assert isinstance(method, IssP)
        if done > last:
            return
        keeps = self.chosen(risen(done, last) if method.anneal == "cubic" else 1.0)
        for weight, keep in zip(self.weights, keeps, strict=True):
            if done == last:
                weight.keep = keep
                continue
            for leaf in weight.parameters:
                leaf.mul_(torch.where(keep, 1.0, method.gamma))
