"""OWL, outlier-weighed layerwise sparsity (Yin et al., ICML 2024): blocks with many outliers keep more.

On the dense model, with the Wanda scores A = |W| sqrt(a) of all matrices of block i in one pool (a matrix that no token
reached counts with sqrt(a) = 1):

    D_i = share of A above m * mean(A);  r_i = (D_i - min D) / (max D - min D) * 2 lam;  s_i = s - (r_i - mean r)

for every matrix of the block. As released, an s_i that is not positive becomes 0.01; then all are shifted together so
that the mean over weights is s exactly, blocks of unequal size included. One block, or blocks with equal D, give s
everywhere.

N:M targets: block i keeps N + delta_i of M, delta_i = round(r'_i - mean r') with r' the same map onto [0, lam_nm]; as
released a delta of 1 becomes 2; 1 <= kept <= M - 1. The mean is therefore NOT the target: rounding and the step over 1
move the mean kept count by -0.5 to +1.25 of M at lam_nm = 2 (evenly spread D: +0.25, so 3:8 ends at 59.4 % instead of
62.5 %), blocks of unequal size and the limits not counted. The limits bind for small M: in 2:4, every delta but 0 ends
at 1:4 or 3:4. Compare such runs by the sparsity they report.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from pruning.allocations.allocation import Allocation, AllocationJob, LayerSparsities
from pruning.allocations.balance import balanced, check_target, of_blocks, spread
from pruning.parallel import ordered_map
from workloads.errors import UserError
from workloads.layers import Layer
from workloads.patterns import NofM

LEAST = 0.01  # what the released program puts in place of a sparsity that is not positive

Scored = tuple[Layer, torch.Tensor, torch.Tensor | None]


@dataclass(frozen=True)
class Owl(Allocation):
    """m: an outlier scores above m times the mean (3 to 10). lam: half the width of the band of sparsities, the paper's
    lambda (0.02 to 0.2). lam_nm: the width of the band of kept counts under an N:M target."""

    m: Annotated[float, Field(gt=0)] = 5.0
    lam: Annotated[float, Field(ge=0, le=0.5)] = 0.08
    lam_nm: Annotated[float, Field(ge=0)] = 2.0

    name = "owl"
    needs_calibration = True

    def allocate(self, job: AllocationJob) -> LayerSparsities:
        """Sparsities, or patterns where the target is one. Raises UserError for targets above 0.95, and for weights or
        inputs that are not finite."""
        if job.pattern is None:
            check_target(job, self.name)
        ratios = dict(outlier_ratios(job, self.m))
        if job.pattern is None:
            return self.of_ratios(job, ratios)
        band = spread(list(ratios.values()))
        kept = kept_counts(self.lam_nm * (band - band.mean()), job.pattern)
        chosen = dict(zip(ratios, kept, strict=True))
        patterns = {layer.name: NofM(chosen[layer.block], job.pattern.m) for layer in job.layers}
        return LayerSparsities({name: pattern.sparsity for name, pattern in patterns.items()}, patterns)

    def of_ratios(self, job: AllocationJob, ratios: Mapping[int, float]) -> LayerSparsities:
        """Sparsities for the job's own, by the `outlier_ratios` of its blocks; looks at no weights."""
        band = spread(list(ratios.values()))
        band -= band.mean()
        sparsities = job.sparsity - 2 * self.lam * band
        sparsities[sparsities <= 0] = LEAST
        return balanced(job, of_blocks(job, dict(zip(ratios, sparsities, strict=True))))


def kept_counts(deviations: np.ndarray, base: NofM) -> list[int]:
    """Weights kept of every base.m, one number a block; deviations (blocks,) = r' - mean r'."""
    deltas = np.round(deviations).astype(int)
    deltas[deltas == 1] = 2
    return [min(max(base.n + int(delta), 1), base.m - 1) for delta in deltas]


def outlier_ratios(job: AllocationJob, m: float) -> Iterator[tuple[int, float]]:
    """(block, share of its scores above m times their mean), block after block; holds the weights of one block."""
    missing = Counter(layer.block for layer in job.layers)
    held: list[Scored] = []
    for scored in job.scored():
        held.append(scored)
        block = scored[0].block
        missing[block] -= 1
        if not missing[block]:  # now, and not when the next one has been loaded beside it
            yield block, outlier_ratio(held, m)
            held.clear()


def outlier_ratio(block: list[Scored], m: float) -> float:
    """Share of the scores of a block's matrices above m times their mean. Raises UserError if one is not finite."""
    count = sum(layer.n_weights for layer, _, _ in block)
    total = 0.0
    for (layer, _, _), part in zip(block, ordered_map(_total, block), strict=True):
        if not np.isfinite(part):
            raise UserError(
                f"{layer.name}: weights or calibration inputs are NaN or Inf, OWL cannot score them; use "
                "`dtype=float32`, or repair the checkpoint"
            )
        total += part
    threshold = m * total / count
    return sum(ordered_map(lambda scored: int((_scores(scored) > threshold).sum()), block)) / count


def _total(scored: Scored) -> float:
    return float(_scores(scored).sum(dtype=torch.float64))


def _scores(scored: Scored) -> torch.Tensor:
    """(out, in) float32"""
    _, weight, feature_norm = scored
    return weight.abs() if feature_norm is None else weight.abs() * feature_norm
