"""BESA (Xu et al., ICLR 2024): a fixed ranking, and learned shares of it to prune, a share a row or a matrix.

They are learned by gradient descent on the error of the block's output plus a penalty that ties the block's sparsity to
the target.

    ranking       wanda |W| sqrt(a); magnitude |W|; sparsegpt (W / U_jj)^2, sparsegpt-released W^2 / U_jj (the release's
                  first form): once, inside each row, of the dense block
    budget        s_g = sum_d pi_d p_d over D = 101 candidates (pruning/methods/besa/coefficients.py), a group a row, or
                  a matrix
    mask          the floor(n s_g) lowest ranks of a row go; differentiated as if the mask were the soft keep
                  probability P(k) = 1 - sum_{d: k < floor(n p_d)} pi_d (straight-through)
    loss          alpha * output error (pruning/training.py) + beta * ((s_block - s) / s)^2
    optimizer     Prodigy (prodigyopt), lr 1, one step a calibration sequence, new for every block; d_coef as released
    finish        budgets are shifted by one constant and rounded so that the block prunes floor(weights * s), exactly

Settings, with what paper and released program do:
  granularity     row (the paper's tables), or "layer": one budget a matrix.
  d_coef          how far budgets travel, the knob the authors tuned. 0 = by granularity, coefficients and size of the
                  block: rows as published from 7B models up (5, 10, 50); below 50 M weights 1, or 0.2 with softmax;
                  matrices 0.5 (the median of the published 0.05 to 50, which show no trend), or 0.05 with softmax. What
                  is not published was found on the two small models of benchmarks/quality.toml, where the published
                  values overshoot.
  coefficients    softmax; sigmoid = softmax(sigmoid(logits)), the released default, which cannot leave [0.376, 0.624]:
                  auto takes it where the target is within 0.1 of 0.5 (there it is what reached the published figures)
                  and softmax elsewhere; sigmoid elsewhere is refused.
  reference       local: the dense block on what the pruned blocks give (released row-wise runs); dense: the unpruned
                  model's own states (released layer-wise runs).
  normalisation   channel (released), none (the paper's plain squared error).
  alpha, beta     1 and 5, as in every published command (the program's default beta is 1).
  nm_budget       for N:M patterns: fixed (every run keeps N; nothing is left to learn but, with `bits`, the clipping)
                  or row: row r keeps k_r of every M, k_r learned, with mean N in every matrix. Such masks are not N:M
                  to hardware that wants the same N everywhere: the bundle calls them unstructured.

With `bits` and the quantizer "lwc" (its default) clipping strengths are learned by the same loss (section 3.3 of the
paper, not released): W_hat = Q(W) * M, ranks from the unquantized W, AdamW with lr clip_lr for the clipping beside
Prodigy.

The gradient for the coefficients is a prefix sum over ranks, not autograd through dense masks. The penalty counts
in sparsity of the block (of every matrix with N:M budgets). The released low-rank delta (off by default) and ranking by
columns are not offered.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from prodigyopt import Prodigy
from pydantic import Field
from torch import nn

from checkpoints.discovery import LinearRef
from pruning.block_job import BlockJob, Decision
from pruning.evidence.needs import Need
from pruning.methods.besa.coefficients import candidates, coefficients, first_logits, reach, whole_counts
from pruning.methods.besa.ranks import keep_above, ranks_of, sums_below, write_masked
from pruning.methods.method import PruningMethod
from pruning.quantizers.clipping import LearnableClipping
from pruning.rules import pruned_count
from pruning.second_order.hessians import Factors
from pruning.training import Normalisation, StandIn, output_error
from workloads.errors import UserError
from workloads.patterns import NofM

LAYER_D_COEF = {True: 0.5, False: 0.05}  # bounded coefficients or not
# Row budgets: (weights of a block up to which, d_coef). Published: 5 (7B, 13B), 10 (30B), 50 (65B, 70B); 1 below that
# is ours.
SMALL_BLOCK = 50e6
SMALL_SOFTMAX_D_COEF = 0.2
ROW_D_COEF = ((SMALL_BLOCK, 1.0), (400e6, 5.0), (700e6, 10.0), (math.inf, 50.0))
NEAR_HALF = 0.1  # how far from 0.5 a target may be for bounded coefficients
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Besa(PruningMethod):
    """0 as d_coef means the default of above; the rest is said there."""

    granularity: Literal["row", "layer"] = "row"
    ranking: Literal["wanda", "magnitude", "sparsegpt", "sparsegpt-released"] = "wanda"
    coefficients: Literal["auto", "softmax", "sigmoid"] = "auto"
    reference: Literal["local", "dense"] = "local"
    normalisation: Normalisation = "channel"
    alpha: Positive = 1.0
    beta: Positive = 5.0
    d_coef: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    candidates: Annotated[int, Field(ge=2)] = 101
    epochs: Annotated[int, Field(ge=1)] = 1
    nm_budget: Literal["fixed", "row"] = "fixed"
    damping: Positive = 0.01
    clip_lr: Positive = 1e-2

    name = "besa"
    joint = frozenset({"lwc"})
    default_quantizer = "lwc"

    @property
    def needs(self) -> frozenset[Need]:
        gathered = {Need.ENERGY, Need.OUTPUTS if self.reference == "local" else Need.DENSE}
        return frozenset(gathered | ({Need.HESSIAN} if self.ranking.startswith("sparsegpt") else set()))

    def check(self, sparsity: float) -> None:
        """Raises UserError for a target the coefficients cannot reach."""
        low, high = reach(candidates(self.candidates))
        if self.coefficients == "sigmoid" and abs(sparsity - 0.5) >= NEAR_HALF:
            raise UserError(
                f"besa: coefficients = sigmoid can only express sparsities within [{low:.3f}, {high:.3f}] and is used "
                f"within {NEAR_HALF} of 0.5, not for {sparsity}; `set` coefficients=softmax"
            )

    def promises(self, pattern: NofM | None) -> NofM | None:
        return None if self.nm_budget == "row" else pattern

    def decide(self, job: BlockJob) -> dict[str, Decision]:
        if all(job.sparsity[ref.layer.name] == 0 for ref in job.refs) and all(
            job.grid(ref) is None for ref in job.refs
        ):
            return {ref.layer.name: Decision(torch.ones_like(job.weight(ref), dtype=torch.bool)) for ref in job.refs}
        matrices = [make_matrix(self, job, ref, score) for ref, score in scores(self, job)]
        free = [matrix for matrix in matrices if self.nm_budget == "row" or not matrix.in_runs]
        if free or matrices[0].clipping is not None:
            learn(self, job, matrices, free)
        decisions = {}
        for matrix, counts in zip(matrices, final_counts(matrices), strict=True):
            keep = keep_above(matrix.ranks, counts)
            if matrix.clipping is None:
                decisions[matrix.ref.layer.name] = Decision(keep)
            else:
                quantized = matrix.clipping.quantize().masked(keep)
                decisions[matrix.ref.layer.name] = Decision(keep, quantized.dequantize(), quantized)
        return decisions


@dataclass
class LearnedMatrix:
    """One matrix in training. ranks (rows, cols) within runs of `width` inputs, the whole row unless `in_runs` (N:M);
    thresholds (D,) ranks each candidate prunes of a run; a count step is `unit` weights a row."""

    ref: LinearRef
    weight: torch.Tensor
    ranks: torch.Tensor
    width: int
    unit: int
    in_runs: bool
    logits: nn.Parameter
    points: torch.Tensor
    thresholds: torch.Tensor
    bounded: bool
    target: float
    clipping: LearnableClipping | None = None
    # Of the running step: the weight before its mask, (rows,) ranks pruned, and (groups, D) dLoss/dpi without the
    # penalty.
    base: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    pruned: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    slope: torch.Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def n_weights(self) -> int:
        return self.weight.numel()

    def pi(self) -> torch.Tensor:
        return coefficients(self.logits, self.bounded)

    def sparsity_by_row(self, pi: torch.Tensor) -> torch.Tensor:
        """(rows,) s_g of each row's group."""
        by_group = pi @ self.points
        return by_group if len(by_group) == len(self.weight) else by_group.expand(len(self.weight))

    def counts(self, by_row: torch.Tensor) -> torch.Tensor:
        """(rows,) ranks pruned: rounded down, as released (short of float32 noise); to the nearest where a run has
        few."""
        return (by_row * self.width + (0.5 if self.in_runs else 1e-3)).floor().long()

    @torch.no_grad()
    def write(self, target: torch.Tensor) -> None:
        """target (rows, cols) becomes what stands in for the weight now."""
        self.base = self.weight if self.clipping is None else self.clipping.quantize().dequantize()
        self.pruned = self.counts(self.sparsity_by_row(self.pi()))
        write_masked(target, self.base, self.ranks, self.pruned)

    @torch.no_grad()
    def receive(self, gradient: torch.Tensor) -> None:
        """dLoss/dW_hat (rows, cols) arrived."""
        sums = sums_below(gradient, self.base, self.ranks, self.thresholds, self.width)
        self.slope = -(sums if len(self.logits) == len(sums) else sums.sum(dim=0, keepdim=True))
        if self.clipping is not None:
            for logits in self.clipping.parameters():
                logits.grad = None
            self.clipping.backward(gradient * keep_above(self.ranks, self.pruned))


def scores(settings: Besa, job: BlockJob) -> Iterator[tuple[LinearRef, torch.Tensor]]:
    """(ref, (rows, cols) importance) of every matrix."""
    factors = (
        Factors(job, settings.damping, "ranked by magnitude") if settings.ranking.startswith("sparsegpt") else None
    )
    for ref in job.refs:
        weight = job.weight(ref)
        if factors is not None:
            diagonal = factors.of(ref)[0].upper.diagonal()
            yield ref, weight.square() / (diagonal.square() if settings.ranking == "sparsegpt" else diagonal)
            continue
        norm = None
        if settings.ranking == "wanda":
            assert job.moments is not None
            norm = job.moments.feature_norm(ref.layer.name)
            if norm is None:
                job.warn(f"{ref.layer.name}: {job.why_unseen(ref.layer.name)}; ranked by magnitude")
        yield ref, weight.abs() if norm is None else weight.abs() * norm


def make_matrix(settings: Besa, job: BlockJob, ref: LinearRef, score: torch.Tensor) -> LearnedMatrix:
    job.check_finite(ref, score)
    weight, pattern, grid = job.weight(ref), job.patterns[ref.layer.name], job.grid(ref)
    target = job.sparsity[ref.layer.name]
    if pattern is None or settings.nm_budget == "row":
        settings.check(target)  # an allocator may have moved it
    width, unit = score.shape[1], 1
    points = candidates(settings.candidates)
    if pattern is not None:
        width, unit = pattern.m, score.shape[1] // pattern.m
        points = candidates(pattern.m + 1)
    bounded = settings.coefficients == "sigmoid"
    if settings.coefficients == "auto":
        bounded = abs(target - 0.5) < NEAR_HALF
    rows = len(weight) if settings.granularity == "row" else 1
    device = weight.device
    return LearnedMatrix(
        ref, weight, ranks_of(score, width), width, unit, pattern is not None,
        nn.Parameter(first_logits(target, points, bounded).repeat(rows, 1).to(device)), points.to(device),
        torch.tensor([pruned_count(width, float(p)) for p in points.double()]), bounded, target,
        None if grid is None else LearnableClipping(weight, grid),
    )  # fmt: skip


def learn(settings: Besa, job: BlockJob, matrices: list[LearnedMatrix], free: list[LearnedMatrix]) -> None:
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
                    return settings.alpha * output_error(output, wanted.to(device), settings.normalisation)

                for optimizer in optimizers:
                    optimizer.zero_grad()
                stand_in.backward(loss, lambda ref, gradient: of[ref].receive(gradient))
                if free:
                    surrogate(settings, free).backward()
                for optimizer in optimizers:
                    optimizer.step()


def default_d_coef(granularity: str, bounded: bool, weights: int) -> float:
    """For a block of so many weights, where the user gave none."""
    if granularity == "layer":
        return LAYER_D_COEF[bounded]
    if weights <= SMALL_BLOCK and not bounded:
        return SMALL_SOFTMAX_D_COEF
    return next(d_coef for most, d_coef in ROW_D_COEF if weights <= most)


def surrogate(settings: Besa, matrices: list[LearnedMatrix]) -> torch.Tensor:
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


def scopes(matrices: list[LearnedMatrix]) -> list[list[int]]:
    """Which matrices share a target: all of a block; each alone where N:M budgets must average N."""
    together = [i for i, matrix in enumerate(matrices) if not matrix.in_runs]
    return ([together] if together else []) + [[i] for i, matrix in enumerate(matrices) if matrix.in_runs]


@torch.no_grad()
def final_counts(matrices: list[LearnedMatrix]) -> list[torch.Tensor]:
    """(rows,) ranks pruned a matrix, exact in sum."""
    counts: dict[int, torch.Tensor] = {}
    for group in scopes(matrices):
        members = [matrices[i] for i in group]
        total = math.floor(sum(b.n_weights * b.target for b in members) + 1e-6)
        wanted = [b.sparsity_by_row(b.pi()).cpu() for b in members]
        found = whole_counts(wanted, [b.width for b in members], [b.unit for b in members], total)
        counts |= dict(zip(group, found, strict=True))
    return [counts[i].to(matrix.weight.device) for i, matrix in enumerate(matrices)]
