"""Wanda++ (Yang et al., "Wanda++: Pruning Large Language Models via Regional Gradients", Findings of ACL 2025; methods
3.5), adapted: Wanda's score, with the gradient of one block added, and new weights for what stays.

    G_rj = sqrt(mean_k (d ||f(X_k)||_2 / dW_rj)^2)      f the dense block, X_k calibration sequence k as it enters it
    S_rj = |W_rj| * (alpha G_rj + sqrt(a_j))            a_j as in Wanda; alpha = 100

Then `rounds` times: the mask of the weights as they are now; for `samples` sequences in turn one step of RMSprop on the
surviving weights, down the squared error of the block's output against that of the dense block on the same inputs. The
last mask is chosen from the weights at the end. rounds=0: the score alone, weights stay. Default rule: row.

The paper's own program is not published. Deviations: a pruned weight keeps its value in memory, so that a later round
can take it back; steps are relative to a matrix, `lr` the share of its root mean square weight, and fall to 0 as a
cosine does (published: 3e-7 of any weight throughout, about 1.5e-5 of LLaMA-7B's; the default was found on a small
model by sequences held out); G is that of the dense block in every round; sequences come in turn instead of at random;
where the new weights leave a larger error on sequences held out from training than the score's own mask does, that mask
stays, and a warning says so.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from checkpoints.discovery import LinearRef
from pruning.block_job import BlockJob, Decision
from pruning.evidence.needs import Need
from pruning.methods.method import Evidence, PruningMethod, feature_norm_or_ones
from pruning.regional import Matrices, block_error, held_out, regional_gradients
from pruning.training import StandIn, output_error

Masks = Callable[[Matrices], Matrices]


@dataclass(frozen=True)
class WandaPlusPlus(PruningMethod):
    """What the settings mean is said above."""

    alpha: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 100.0
    rounds: Annotated[int, Field(ge=0)] = 5
    samples: Annotated[int, Field(ge=1)] = 32
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 5e-3

    name = "wanda-pp"
    rules = ("row", "layer")
    needs = frozenset({Need.ENERGY, Need.OUTPUTS})
    trial_settings: ClassVar[Mapping[str, Any]] = {"rounds": 1, "samples": 3}  # with which its laws are checked

    @property
    def changes_weights(self) -> bool:  # type: ignore[override]
        return self.rounds > 0

    @property
    def scores_alone(self) -> bool:
        return self.rounds == 0

    def score(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        """evidence.gradient is G."""
        norm = feature_norm_or_ones(weight, evidence)
        gradient = torch.zeros_like(weight) if evidence.gradient is None else evidence.gradient
        return weight.abs() * (self.alpha * gradient + norm)

    def decide(self, job: BlockJob) -> dict[str, Decision]:
        gradients = regional_gradients(job) if self.alpha else {}
        known = {}
        for ref in job.refs:
            norm = self.evidence(job, ref.layer.name).feature_norm
            known[ref] = Evidence(job.samples, norm, gradients.get(ref))

        def masks(weights: Matrices) -> Matrices:
            return {ref: job.choose(ref, self.score(weights[ref], known[ref])) for ref in job.refs}

        dense = {ref: job.weight(ref) for ref in job.refs}
        keep = masks(dense)
        if not self.rounds or all(bool(own.all()) for own in keep.values()):
            return {ref.layer.name: Decision(keep[ref]) for ref in job.refs}
        weights = self.optimized(job, dense, masks)
        last = masks(weights)
        _, apart = held_out(len(job.sequences(job.inputs)))
        before = block_error(job, apart, {ref: dense[ref] * keep[ref] for ref in job.refs})
        after = block_error(job, apart, {ref: weights[ref] * last[ref] for ref in job.refs})
        job.facts |= {"weights": "optimized" if after < before else "as they were", "error_ratio": after / before}
        if after >= before:
            job.warn(
                f"block {job.number}: {self.rounds} rounds made its error on held-out sequences {after / before:.2f} "
                "times as large, so its weights stay; lower `lr`, or give more sequences"
            )
            weights, last = dense, keep
        return {
            ref.layer.name: Decision(last[ref], weights[ref].detach().masked_fill(~last[ref], 0)) for ref in job.refs
        }

    def optimized(self, job: BlockJob, dense: Matrices, masks: Masks) -> Matrices:
        """The weights after all rounds."""
        own = {ref: nn.Parameter(weight.clone()) for ref, weight in dense.items()}
        groups = [{"params": [own[ref]], "lr": self.lr * rms(dense[ref])} for ref in own]
        steps = torch.optim.RMSprop(groups, lr=self.lr)
        fall = torch.optim.lr_scheduler.CosineAnnealingLR(steps, self.rounds * self.samples)
        inputs, wanted = job.sequences(job.inputs), job.sequences(job.outputs)
        trained, _ = held_out(len(inputs))
        place = 0
        for _ in range(self.rounds):
            keep = masks({ref: weight.detach() for ref, weight in own.items()})
            with StandIn(job.block, job.refs) as stand_in:
                for _ in range(self.samples):
                    number, place = trained[place % len(trained)], place + 1
                    step(job, stand_in, own, keep, steps, inputs[number], wanted[number])
                    fall.step()
        return {ref: weight.detach() for ref, weight in own.items()}


def step(
    job: BlockJob, stand_in: StandIn, own: dict[LinearRef, nn.Parameter], keep: Matrices, steps: torch.optim.Optimizer,
    states: torch.Tensor, wanted: torch.Tensor,
) -> None:  # fmt: skip
    """One of RMSprop, of the survivors alone."""
    for ref, weight in own.items():
        stand_in.set(ref, weight.detach() * keep[ref])
        weight.grad = None

    def receive(ref: LinearRef, gradient: torch.Tensor) -> None:
        own[ref].grad = gradient * keep[ref]

    stand_in.backward(lambda: output_error(job.run(states.to(job.device)), wanted.to(job.device), "none"), receive)
    steps.step()


def rms(weight: torch.Tensor) -> float:
    return float(weight.square().mean().sqrt())
