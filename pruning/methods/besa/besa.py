"""BESA (Xu et al., ICLR 2024): a fixed ranking, and learned shares of it to prune, a share a row or a matrix.

They are learned by gradient descent on the error of the block's output, at a fixed sparsity of the block.

    ranking       wanda |W| sqrt(a); magnitude |W|; gblm (methods/gblm.py at its defaults); sparsegpt (W / U_jj)^2,
                  sparsegpt-released W^2 / U_jj (the release's first form): once, inside each row, of the dense block
    mask          the floor(n s_g) lowest ranks of a row go, s_g the budget of its group: a row, or the matrix
    loss          alpha * output error (pruning/training.py)
    finish        budgets are shifted by one constant and rounded so that the block prunes floor(weights * s), exactly

Settings, with what paper and released program do:
  optimizer       adam: budgets themselves are what Adam moves, in steps of known size (methods/besa/budgets.py). It
                  needs no tuning to model, number of sequences or sparsity, reaches every sparsity, checks itself on
                  calibration sequences held out from training, and takes the ranking's own masks where it finds none
                  better. Ours.
                  prodigy: as released (methods/besa/released.py): softmax coefficients over 101 candidate
                  sparsities, a penalty, Prodigy, one step a sequence on all of them, nothing held out.
  granularity     row (the paper's tables), or "layer": one budget a matrix.
  reference       local: the dense block on what the pruned blocks give (released row-wise runs); dense: the unpruned
                  model's own states (released layer-wise runs).
  normalisation   of the error: token (by each token's own size, as the norm that reads it divides by it; ours), channel
                  (released), none (the paper's plain squared error). Where a few tokens are much larger than all
                  others, channel sees little but those. auto: token with adam, channel with prodigy.
  nm_budget       for N:M patterns: fixed (every run keeps N; nothing is left to learn but, with `bits`, the clipping)
                  or row: row r keeps k_r of every M, k_r learned, with mean N in every matrix. Such masks are not N:M
                  to hardware that wants the same N everywhere: the bundle calls them unstructured.
  update          none (BESA's own); obs: survivors make up for what the masks took away, by SparseGPT's walk under the
                  given mask, with `damping` (ours; the bundle holds weights).
 of adam alone:
  step            the largest step of a budget, in sparsity. rounds: the most rounds of 32 steps; it ends before where
                  the last one brought less than 3 %.
  span            blocks in a row whose budgets are learned together, on the error of the last one's output: sparsity
                  moves between them too, while they are learned, and only their sum is given. 1: each block by itself
                  (the paper's). Ours.
  lanes           rows that share a budget, each `lanes` in turn: as many as an array has lanes, so that none waits for
                  another (1: every row its own).
  imbalance       with costs, on a machine whose rows wait for each other: the share of a lane group's cost that follows
                  its fullest row, the rest the mean of its rows (0: as the table has it). constraint.py.
 of prodigy alone:
  d_coef          how far budgets travel, the knob the authors tuned. 0 = by granularity, coefficients and size of the
                  block: rows as published from 7B models up (5, 10, 50); below 50 M weights 1, or 0.2 with softmax;
                  matrices 0.5 (the median of the published 0.05 to 50, which show no trend), or 0.05 with softmax. What
                  is not published was found on two small models, where the published values overshoot.
  coefficients    softmax; sigmoid = softmax(sigmoid(logits)), the released default, which cannot leave [0.376, 0.624];
                  auto takes it where the target is within 0.1 of 0.5 and softmax elsewhere; sigmoid elsewhere is
                  refused. `candidates` (101) and `epochs` (1) as released.
  beta            of the penalty ((s_block - s) / s)^2: 5, as in every published command (the program's default is 1).

With `bits` and the quantizer "lwc" (its default) clipping strengths are learned by the same loss (section 3.3 of the
paper, not released): W_hat = Q(W) * M, ranks from the unquantized W, AdamW with lr clip_lr for the clipping beside the
budgets' optimizer.

The released low-rank delta (off by default) and ranking by columns are not offered.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from checkpoints.discovery import LinearRef
from pruning.block_job import BlockJob, Decision
from pruning.methods.besa import budgets
from pruning.methods.besa.budgets import BudgetMatrix, BudgetTraining
from pruning.methods.besa.coefficients import candidates, first_logits
from pruning.methods.besa.matrices import RankedMatrix, final_counts
from pruning.methods.besa.ranks import keep_above, ranks_of
from pruning.methods.besa.released import CandidateMatrix, learn_coefficients
from pruning.methods.besa.settings import NEAR_HALF, BesaSettings
from pruning.methods.gblm import Gblm
from pruning.methods.method import Evidence
from pruning.quantizers.clipping import LearnableClipping
from pruning.rules import pruned_count
from pruning.second_order.hessians import Factors
from pruning.second_order.obs import MaskChoice, compensate


@dataclass(frozen=True)
class Besa(BesaSettings):
    """What its settings mean is said above."""

    name = "besa"
    joint = frozenset({"lwc"})
    default_quantizer = "lwc"

    @property
    def changes_weights(self) -> bool:  # type: ignore[override]
        return self.update == "obs"

    def training_sequences(self, samples: int) -> int:
        return self.epochs * samples if self.optimizer == "prodigy" else self.rounds * budgets.ROUND

    def decide(self, job: BlockJob) -> dict[str, Decision]:
        if all(job.sparsity[ref.layer.name] == 0 for ref in job.refs) and all(
            job.grid(ref) is None for ref in job.refs
        ):
            return {ref.layer.name: Decision(torch.ones_like(job.weight(ref), dtype=torch.bool)) for ref in job.refs}
        make = make_candidates if self.optimizer == "prodigy" else make_budgets
        matrices: list[Any] = [make(self, job, ref, score) for ref, score in scores(self, job)]
        counts = learned(self, job, matrices)
        decisions = {}
        for matrix, of_rows in zip(matrices, counts, strict=True):
            keep = keep_above(matrix.ranks, of_rows)
            if matrix.clipping is None:
                decisions[matrix.ref.layer.name] = Decision(keep)
            else:
                quantized = matrix.clipping.quantize().masked(keep)
                decisions[matrix.ref.layer.name] = Decision(keep, quantized.dequantize(), quantized)
        return updated(self, job, decisions) if self.update == "obs" else decisions


def learned(settings: Besa, job: BlockJob, matrices: list[Any]) -> list[torch.Tensor]:
    """(rows,) ranks pruned of every matrix."""
    free = [matrix for matrix in matrices if settings.nm_budget == "row" or not matrix.in_runs]
    if not free and matrices[0].clipping is None:
        return final_counts(matrices)
    if settings.optimizer == "adam":
        return BudgetTraining(settings, job, matrices, free).learn()
    learn_coefficients(settings, job, matrices, free)
    return final_counts(matrices)


def scores(settings: Besa, job: BlockJob) -> Iterator[tuple[LinearRef, torch.Tensor]]:
    """(ref, (rows, cols) importance) of every matrix."""
    if settings.ranking.startswith("sparsegpt"):
        factors = Factors(job, settings.damping, "ranked by magnitude")
        for ref in job.refs:
            diagonal = factors.of(ref)[0].upper.diagonal()
            yield ref, job.weight(ref).square() / (diagonal.square() if settings.ranking == "sparsegpt" else diagonal)
        return
    for ref in job.refs:
        weight, norm = job.weight(ref), None
        if settings.ranking != "magnitude":
            assert job.moments is not None
            norm = job.moments.feature_norm(ref.layer.name)
            if norm is None:
                job.warn(f"{ref.layer.name}: {job.why_unseen(ref.layer.name)}; ranked by magnitude")
        if settings.ranking == "gblm":
            assert job.gradients is not None
            gradient = job.gradients[ref.layer.name].to(weight.device)
            yield ref, Gblm().score(weight, Evidence(job.samples, norm, gradient))
        else:
            yield ref, weight.abs() if norm is None else weight.abs() * norm


def ranked(settings: Besa, job: BlockJob, ref: LinearRef, score: torch.Tensor) -> RankedMatrix:
    job.check_finite(ref, score)
    weight, pattern, grid = job.weight(ref), job.patterns[ref.layer.name], job.grid(ref)
    width, unit = score.shape[1], 1
    if pattern is not None:
        width, unit = pattern.m, score.shape[1] // pattern.m
    clipping = None if grid is None else LearnableClipping(weight, grid)
    target = job.sparsity[ref.layer.name]
    return RankedMatrix(
        ref, weight, ranks_of(score, width), width, unit, pattern is not None, target, clipping=clipping
    )


def groups(settings: Besa, weight: torch.Tensor) -> int:
    return len(weight) if settings.granularity == "row" else 1


def make_budgets(settings: Besa, job: BlockJob, ref: LinearRef, score: torch.Tensor) -> BudgetMatrix:
    of = ranked(settings, job, ref, score)
    budgets = torch.full((groups(settings, of.weight),), of.target, device=of.weight.device)
    return BudgetMatrix(
        of.ref, of.weight, of.ranks, of.width, of.unit, of.in_runs, of.target, budgets, clipping=of.clipping
    )


def make_candidates(settings: Besa, job: BlockJob, ref: LinearRef, score: torch.Tensor) -> CandidateMatrix:
    of = ranked(settings, job, ref, score)
    if not of.in_runs or settings.nm_budget == "row":
        settings.check_reach(of.target)  # an allocator may have moved it
    points = candidates(of.width + 1 if of.in_runs else settings.candidates)
    bounded = settings.coefficients == "sigmoid"
    if settings.coefficients == "auto":
        bounded = abs(of.target - 0.5) < NEAR_HALF
    device = of.weight.device
    logits = first_logits(of.target, points, bounded).repeat(groups(settings, of.weight), 1).to(device)
    thresholds = torch.tensor([pruned_count(of.width, float(p)) for p in points.double()])
    return CandidateMatrix(
        of.ref, of.weight, of.ranks, of.width, of.unit, of.in_runs, of.target, nn.Parameter(logits),
        points.to(device), thresholds, bounded, clipping=of.clipping,
    )  # fmt: skip


def updated(settings: Besa, job: BlockJob, decisions: dict[str, Decision]) -> dict[str, Decision]:
    """The same masks, and survivors that make up for what they take away (methods 2.2)."""
    factors = Factors(job, settings.damping, "its weights stay")
    made = {}
    for ref in job.refs:
        keep = decisions[ref.layer.name].keep
        made[ref.layer.name] = Decision(keep, compensate(job.weight(ref), factors.of(ref)[0], MaskChoice(keep)).weight)
    return made
