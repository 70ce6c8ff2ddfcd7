"""What a pruning method is: a table line's content. Each method's file ends with its METHOD."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from pruning.block_job import BlockJob, Decision
from pruning.evidence.needs import Need, check_needs
from workloads.patterns import NofM


@dataclass(frozen=True)
class Evidence:
    """What is known of a matrix besides its weights, from `samples` sequences. feature_norm (in,) float32, sqrt(a) of methods
    0.5; gradient (out, in) float32."""

    samples: int
    feature_norm: torch.Tensor | None = None
    gradient: torch.Tensor | None = None


Score = Callable[[Any, torch.Tensor, Evidence], torch.Tensor]


@dataclass(frozen=True)
class Method:
    """`decide` makes one Decision for every matrix of a block; a score-based method has `score` instead: (parameters,
    (out, in) float32 weight, evidence) -> (out, in) float32 scores, low = pruned first.

    rules: what may be compared, the default first. joint: quantizers the method runs itself, inside its own optimisation; the
    others come after it. changes_weights: surviving weights change too. prunes: False if it keeps everything. check: (parameters,
    sparsity), raises UserError for a target it cannot reach. promises: (parameters, the pattern asked for) -> the N:M that its
    masks follow, None if none.
    """

    name: str
    documentation: str
    rules: tuple[str, ...]
    parameters_type: type
    needs_of: Callable[[Any], frozenset[Need]]
    score: Score | None = None
    decide: Callable[[Any, BlockJob], dict[str, Decision]] | None = None
    joint: frozenset[str] = frozenset()
    default_quantizer: str = "rtn"
    changes_weights: bool = False
    prunes: bool = True
    check: Callable[[Any, float], None] = lambda parameters, sparsity: None
    promises: Callable[[Any, NofM | None], NofM | None] = lambda parameters, pattern: pattern


def decide_block(method: Method, parameters: Any, job: BlockJob) -> dict[str, Decision]:
    """The decisions for one block, by layer name."""
    if method.decide is not None:
        return method.decide(parameters, job)
    assert method.score is not None
    return {
        ref.layer.name: Decision(
            job.choose(
                ref, method.score(parameters, job.weight(ref), evidence_of(method, parameters, job, ref.layer.name))
            )
        )
        for ref in job.refs
    }


def evidence_of(method: Method, parameters: Any, job: BlockJob, name: str) -> Evidence:
    needs = check_needs(method.needs_of(parameters), f"method {method.name}")
    norm = gradient = None
    if Need.ENERGY in needs:
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
