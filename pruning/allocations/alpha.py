"""AlphaPruning (Lu et al., NeurIPS 2024): matrices with a heavy-tailed spectrum keep more.

Heavy tails come with training, so that such matrices are taken to hold more. lam_0 <= lam_1 <= ... are the squared
singular values of a matrix. The Hill estimate of the exponent of the tail that starts at lam_i, with n = count - i,
is alpha = 1 + n / sum_{j>=i} ln(lam_j / lam_i).

    alpha_mid    i = count / 2
    alpha_peak   the i of least Kolmogorov-Smirnov distance max_{j>=i} |1 - (lam_j/lam_i)^(1-alpha) - (j-i)/n| among
                 those with lam_i within [0.95, 1.5] of the mode, which is 10^(left edge of the fullest of 100 bins of
                 log10 lam); ties go to the lower bin and the lower i

With a = alpha of every matrix, or its mean over the matrices of each block: q = 1 - eps + (a - min) / (max - min) 2 eps
and s_l = s q_l sum N / sum N q; then capped at 0.95 at the exact mean.

The released program compares lam_i with log10(0.95 mode), a raw value with a logarithm, so that its lower bound is
usually without effect; here both bounds are raw values. Singular values lost in float32 rounding (below 1.2e-7 of the
largest) do not count. A matrix without a tail to fit (zeros, rank one, equal singular values) takes the mean of the
others.

No data, but a float32 SVD of every matrix, about 4 o n^2 - 4/3 n^3 operations for n <= o: on one core 14 s for
4096 x 4096, 17 s for 11008 x 4096, an hour for a 7B model. As many matrices are held as there are threads.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from pruning.allocations.allocation import Allocation, AllocationJob, LayerSparsities
from pruning.allocations.balance import balanced, check_target, of_blocks, spread
from pruning.parallel import ordered_map
from workloads.errors import UserError
from workloads.layers import Layer

WINDOW = (0.95, 1.5)
BINS = 100


@dataclass(frozen=True)
class Alpha(Allocation):
    """granularity: one sparsity a block, or one a matrix. eps: how far sparsities may go from the target, relative to
    it (for Wanda 0.3, SparseGPT 0.2 to 0.3, magnitude 0.3 to 0.5)."""

    estimator: Literal["alpha_peak", "alpha_mid"] = "alpha_peak"
    granularity: Literal["block", "layer"] = "block"
    eps: Annotated[float, Field(ge=0, lt=1)] = 0.3

    name = "alpha"

    def allocate(self, job: AllocationJob) -> LayerSparsities:
        """Raises UserError for N:M, for targets above 0.95, and for weights that are not finite."""
        check_target(job, self.name)

        def measure(matrix: tuple[Layer, torch.Tensor]) -> float | None:
            spectrum = eigenvalues(*matrix)
            return alpha_peak(spectrum) if self.estimator == "alpha_peak" else alpha_mid(spectrum)

        alphas = list(ordered_map(measure, job.weights(), large=True))
        if self.granularity == "block":
            blocks: dict[int, list[float | None]] = {}
            for layer, alpha in zip(job.layers, alphas, strict=True):
                blocks.setdefault(layer.block, []).append(alpha)
            means = filled([mean(block) for block in blocks.values()])
            scores = of_blocks(job, dict(zip(blocks, means, strict=True)))
        else:
            scores = filled(alphas)
        q = 1 - self.eps + 2 * self.eps * spread(scores)
        sizes = np.array([layer.n_weights for layer in job.layers], float)
        return balanced(job, q * job.sparsity * sizes.sum() / (sizes @ q))


def mean(alphas: Sequence[float | None]) -> float | None:
    """Of those there are."""
    known = [alpha for alpha in alphas if alpha is not None]
    return math.fsum(known) / len(known) if known else None


def filled(alphas: Sequence[float | None]) -> list[float]:
    """The missing replaced by the mean of the others; all the same where all are missing."""
    middle = mean(alphas)
    return [alpha if alpha is not None else middle or 0.0 for alpha in alphas]


def eigenvalues(layer: Layer, weight: torch.Tensor) -> np.ndarray:
    """Squared singular values of a (out, in) float32 weight, ascending, float64, at most min(out, in) of them."""
    if not bool(weight.isfinite().all()):
        raise UserError(f"{layer.name}: weights are NaN or Inf, they have no singular values; repair the checkpoint")
    singular = torch.linalg.svdvals(weight).double().cpu().numpy()[::-1]
    return singular[singular > torch.finfo(torch.float32).eps * singular[-1]] ** 2


def alpha_mid(spectrum: np.ndarray) -> float | None:
    """The Hill estimate over the upper half of an ascending spectrum; None if it has no tail."""
    return hill(np.log(spectrum[len(spectrum) // 2 :]))


def alpha_peak(spectrum: np.ndarray) -> float | None:
    """The Hill estimate of the tail nearest to its power law of those that start at the mode; None if there is none."""
    if len(spectrum) < 2:
        return None
    counts, edges = np.histogram(np.log10(spectrum), BINS)
    low, high = (bound * 10 ** edges[counts.argmax()] for bound in WINDOW)
    starts = np.flatnonzero((spectrum >= low) & (spectrum <= high))
    logs = np.log(spectrum)
    best, least = None, math.inf
    for start in starts[starts < len(spectrum) - 1]:
        tail = logs[start:]
        alpha = hill(tail)
        if alpha is not None and (distance := ks_distance(tail, alpha)) < least:
            best, least = alpha, distance
    return best


def hill(tail: np.ndarray) -> float | None:
    """1 + n / sum(log_j - log_0) of the ascending logarithms of a tail; None where rounding alone tells them apart."""
    excess = float((tail - tail[0]).mean()) if len(tail) else 0.0
    return 1 + 1 / excess if excess > 1e-6 else None


def ks_distance(tail: np.ndarray, alpha: float) -> float:
    """Largest gap between the power law and the share of values below, over the ascending logarithms of a tail."""
    law = 1 - np.exp((1 - alpha) * (tail - tail[0]))
    return float(np.abs(law - np.arange(len(tail)) / len(tail)).max())
