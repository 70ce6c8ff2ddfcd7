"""BESA's budgets as the release learns them: softmax coefficients over candidate sparsities, moved by Prodigy.

budget        s_g = sum_d pi_d p_d over D = 101 candidates (pruning/methods/besa/coefficients.py)
gradient      as if the mask were the soft keep probability P(k) = 1 - sum_{d: k < floor(n p_d)} pi_d
              (straight-through): a prefix sum over ranks (methods 4.4), not autograd through dense masks
loss          alpha * output error + beta * ((s_block - s) / s)^2
optimizer     Prodigy (prodigyopt), lr 1, one step a calibration sequence, new for every block
"""

import math
from dataclasses import dataclass, field

import torch
from prodigyopt import Prodigy
from torch import nn

from pruning.block_job import BlockJob
from pruning.methods.besa.coefficients import coefficients
from pruning.methods.besa.matrices import RankedMatrix, scopes
from pruning.methods.besa.ranks import sums_below
from pruning.methods.besa.settings import BesaSettings
from pruning.training import StandIn, output_error

LAYER_D_COEF = {True: 0.5, False: 0.05}  # bounded coefficients or not
# Row budgets: (weights of a block up to which, d_coef). Published: 5 (7B, 13B), 10 (30B), 50 (65B, 70B); 1 below that
# is ours.
SMALL_BLOCK = 50e6
SMALL_SOFTMAX_D_COEF = 0.2
ROW_D_COEF = ((SMALL_BLOCK, 1.0), (400e6, 5.0), (700e6, 10.0), (math.inf, 50.0))
STUCK = 0.002  # standard deviation of budgets, in sparsity, below which they are where they began


@dataclass
class CandidateMatrix(RankedMatrix):
    """logits (groups, D) of the candidates `points` (D,), of which each prunes `thresholds` (D,) ranks of a run."""

    logits: nn.Parameter
    points: torch.Tensor
    thresholds: torch.Tensor
    bounded: bool
    # Of the running step: (groups, D) dLoss/dpi without the penalty.
    slope: torch.Tensor = field(default_factory=lambda: torch.empty(0), kw_only=True)

    def pi(self) -> torch.Tensor:
        return coefficients(self.logits, self.bounded)

    def wanted(self) -> torch.Tensor:
        by_group = self.pi() @ self.points
        return by_group if len(by_group) == len(self.weight) else by_group.expand(len(self.weight))

    @torch.no_grad()
    def receive(self, gradient: torch.Tensor) -> None:
        sums = sums_below(gradient, self.base, self.ranks, self.thresholds, self.width)
        self.slope = -(sums if len(self.logits) == len(sums) else sums.sum(dim=0, keepdim=True))
        self.receive_clipping(gradient)


def learn_coefficients(
    settings: BesaSettings, job: BlockJob, matrices: list[CandidateMatrix], free: list[CandidateMatrix]
) -> None:
    """Trains the logits of the `free` matrices, and all clipping, one step a calibration sequence."""
    device = job.device
    inputs = job.sequences(job.inputs)
    references = job.sequences(job.outputs if settings.reference == "local" else job.dense_outputs)
    optimizers: list[torch.optim.Optimizer] = []
    if free:
        bounded = all(matrix.bounded for matrix in free)
        weights = sum(matrix.n_weights for matrix in free)
        d_coef = settings.d_coef or default_d_coef(settings.granularity, bounded, weights)
        optimizers.append(Prodigy([b.logits for b in free], lr=1.0, d_coef=d_coef))
    clipped = [p for b in matrices if b.clipping is not None for p in b.clipping.parameters()]
    if clipped:
        optimizers.append(torch.optim.AdamW(clipped, lr=settings.clip_lr, weight_decay=0.0))
    of = {matrix.ref: matrix for matrix in matrices}
    with StandIn(job.block, [matrix.ref for matrix in matrices]) as stand_in:
        for _ in range(settings.epochs):
            for states, wanted in zip(inputs, references, strict=True):
                for matrix in matrices:
                    matrix.write(stand_in.view(matrix.ref))
                    matrix.slope = torch.zeros_like(matrix.logits)

                def loss(states=states, wanted=wanted) -> torch.Tensor:
                    output = job.run(states.to(device))
                    return settings.alpha * output_error(output, wanted.to(device), settings.measure)

                for optimizer in optimizers:
                    optimizer.zero_grad()
                stand_in.backward(loss, lambda ref, gradient: of[ref].receive(gradient))
                if free:
                    surrogate(settings, free).backward()
                for optimizer in optimizers:
                    optimizer.step()
    if free:
        moved = spread(free)
        job.facts |= {
            "budgets": "even" if moved < STUCK else "learned",
            "steps": settings.epochs * len(inputs),
            "root_mean_square_of_moves": moved,
        }
        if moved < STUCK:
            job.warn(
                f"block {job.number}: budgets hardly moved (by {moved:.5f} in {settings.epochs * len(inputs)} steps): "
                "this is the ranking alone; raise `epochs` or `d_coef`, or leave `optimizer` at adam"
            )


@torch.no_grad()
def spread(matrices: list[CandidateMatrix]) -> float:
    """Root mean square over rows of how far budgets are from their matrices' targets, in sparsity."""
    off = torch.cat([(matrix.wanted() - matrix.target).cpu() for matrix in matrices])
    return float(off.square().mean().sqrt())


def default_d_coef(granularity: str, bounded: bool, weights: int) -> float:
    """For a block of so many weights, where the user gave none."""
    if granularity == "layer":
        return LAYER_D_COEF[bounded]
    if weights <= SMALL_BLOCK and not bounded:
        return SMALL_SOFTMAX_D_COEF
    return next(d_coef for most, d_coef in ROW_D_COEF if weights <= most)


def surrogate(settings: BesaSettings, matrices: list[CandidateMatrix]) -> torch.Tensor:
    """A scalar whose gradient with respect to the logits is the loss's: sum pi * dL_rec/dpi, plus the penalty as it
    is."""
    with torch.enable_grad():
        total = torch.zeros((), device=matrices[0].weight.device)
        pis = [matrix.pi() for matrix in matrices]
        for matrix, pi in zip(matrices, pis, strict=True):
            total = total + (pi * matrix.slope).sum()
        for group in scopes(matrices):
            weights = sum(matrices[i].n_weights for i in group)
            pruned = sum(matrices[i].n_weights * (pis[i] @ matrices[i].points).mean() for i in group)
            target = sum(matrices[i].n_weights * matrices[i].target for i in group) / weights
            if target > 0:
                total = total + settings.beta * ((pruned / weights - target) / target) ** 2
        return total
