"""RIA, relative importance and activations (Zhang, Bai, Lin, Zhao, Hou, Cannistraci, "Plug-and-Play: An Efficient
Post-training Pruning Method for Large Language Models", ICLR 2024; methods 3.3, 3.4): a weight counts by its share of
its row and of its column, and by its input.

    S_rj = (|W_rj| / sum_k |W_rk| + |W_rj| / sum_i |W_ij|) * sqrt(a_j)^a,   a = 0.5, a_j as in Wanda

Shares keep rows and columns alive whose weights are all small. No update. Default rule: layer, as the released program
runs unless told otherwise; row is its other one.

permute, for N:M alone: channels change places so that runs of M keep more of what counts (dealt out by importance, then
a linear sum assignment for each place of a run):
  none     the inputs as they stand.
  fold     where a matrix's inputs are rows of others of its block (down: gate and up; o: v, within each value head)
           both are moved, once for all: a model that gives the same unpruned, whose masks are plain N:M. The bundle
           holds the moved weights; nothing is gathered at run time. All other matrices (q, k, v, gate, up read the
           residual stream; fused q, k, v; rows with biases) keep their order, and a warning names them.
  gather   the paper's: every matrix has an order of its own, weights stay where they are. Such masks are N:M only to
           a program that gathers each matrix's inputs first: the bundle calls them unstructured.
ranking: which score decides and is kept most of: ria; wanda and magnitude for their own masks with channels permuted.

Deviations: counts are exact; ties prune the lower index; an order that keeps less than the plain one is not taken. The
released program works on 4, 8 or 16 parts of a matrix (`--fast`) or on all of it, as this does; it folds nothing.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field

from checkpoints.discovery import LinearRef
from pruning.block_job import BlockJob, Decision
from pruning.evidence.needs import Need
from pruning.methods.method import Evidence, PruningMethod, feature_norm_or_ones
from pruning.permutation.couplings import couplings
from pruning.permutation.order import better_order, kept_score
from workloads.patterns import NofM

TINY = torch.finfo(torch.float32).tiny  # a row or column of zeros


@dataclass(frozen=True)
class Ria(PruningMethod):
    """a: how much inputs count, 0 leaves the weights alone to decide; permute and ranking are said above."""

    a: Annotated[float, Field(ge=0, le=2)] = 0.5
    permute: Literal["none", "fold", "gather"] = "none"
    ranking: Literal["ria", "wanda", "magnitude"] = "ria"

    name = "ria"
    rules = ("layer", "row")
    needs = frozenset({Need.ENERGY})

    @property
    def changes_weights(self) -> bool:  # type: ignore[override]
        return self.permute == "fold"

    @property
    def reorders(self) -> bool:
        return self.permute != "none"

    @property
    def scores_alone(self) -> bool:
        return not self.reorders

    def promises(self, pattern: NofM | None) -> NofM | None:
        return None if self.permute == "gather" else pattern

    def score(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        size = weight.abs()
        if self.ranking == "magnitude":
            return size
        norm = feature_norm_or_ones(weight, evidence)
        return size * norm if self.ranking == "wanda" else relative(size) * norm**self.a

    def decide(self, job: BlockJob) -> dict[str, Decision]:
        if not self.reorders:
            return super().decide(job)
        scores = {ref: self.score(job.weight(ref), self.evidence(job, ref.layer.name)) for ref in job.refs}
        for ref in job.refs:
            job.check_finite(ref, scores[ref])
        decisions = gathered(job, scores) if self.permute == "gather" else folded(job, scores)
        return {ref.layer.name: decisions[ref.layer.name] for ref in job.refs}


def relative(size: torch.Tensor) -> torch.Tensor:
    """(out, in): each of (out, in) absolute weights as a share of its row, plus as one of its column."""
    rows, columns = size.sum(dim=1, keepdim=True), size.sum(dim=0, keepdim=True)
    return size / rows.clamp_min(TINY) + size / columns.clamp_min(TINY)


def gathered(job: BlockJob, scores: dict[LinearRef, torch.Tensor]) -> dict[str, Decision]:
    """Every matrix's inputs in an order of its own; masks are given in the order that they have."""
    decisions, gains = {}, []
    for ref, score in scores.items():
        pattern = job.patterns[ref.layer.name]
        if pattern is None:
            decisions[ref.layer.name] = Decision(job.choose(ref, score))
            continue
        order = better_order(score, pattern).to(score.device)
        keep = torch.empty_like(score, dtype=torch.bool)
        keep[:, order] = job.choose(ref, score[:, order])
        decisions[ref.layer.name] = Decision(keep)
        gains.append(kept_score(score[:, order], pattern) / kept_score(score, pattern))
    note(job, gains, "gathered")
    return decisions


def folded(job: BlockJob, scores: dict[LinearRef, torch.Tensor]) -> dict[str, Decision]:
    """Channels that other rows of the block make are moved, with those rows."""
    found, lacking = couplings(job)
    scores, gains = dict(scores), []
    weights: dict[LinearRef, torch.Tensor] = {}
    for coupling in found:
        output, pattern = coupling.output, job.patterns[coupling.output.layer.name]
        if pattern is None:
            continue
        if coupling.columns.shape[2] % pattern.m:
            lacking[output.layer.name] = f"its {coupling.columns.shape[2]} features that may move are no whole runs"
            continue
        orders = [better_order(own, pattern) for own in coupling.stacked(scores[output])]
        columns, rows = coupling.moves(orders)
        before = kept_score(scores[output], pattern)
        for ref, index in rows.items():
            scores[ref], weights[ref] = scores[ref][index], weights.get(ref, job.weight(ref))[index]
        scores[output] = scores[output][:, columns]
        weights[output] = weights.get(output, job.weight(output))[:, columns]
        gains.append(kept_score(scores[output], pattern) / before)
    note(job, gains, "folded")
    moving = {coupling.output for coupling in found}
    stay = [ref for ref in scores if job.patterns[ref.layer.name] is not None and ref not in moving]
    say_what_stays(job, stay, lacking)
    made = {}
    for ref, score in scores.items():
        keep, weight = job.choose(ref, score), weights.get(ref)
        made[ref.layer.name] = Decision(keep, None if weight is None else weight.masked_fill(~keep, 0))
    return made


def note(job: BlockJob, gains: list[float], how: str) -> None:
    job.facts["permuted"] = how if gains else "nothing"
    if gains:
        job.facts["kept_score_gain"] = sum(gains) / len(gains) - 1


def say_what_stays(job: BlockJob, stay: list[LinearRef], lacking: dict[str, str]) -> None:
    told = [f"{name} ({why})" for name, why in lacking.items()]
    roles = list(dict.fromkeys(ref.layer.role for ref in stay if ref.layer.name not in lacking))
    if roles:
        told.append(f"{', '.join(roles)} (no rows of this block make their inputs)")
    if told:
        job.warn(f"block {job.number}: these inputs keep their order: {'; '.join(told)}")
