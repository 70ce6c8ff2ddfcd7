"""ER, Erdos-Renyi (Mocanu et al., 2018), and ERK (Evci et al., ICML 2020): small matrices keep more.

density_l = c (o + n) / (o n) for an (o, n) matrix, c such that the mean over all weights is the target. Matrices whose
density would exceed 1 stay dense, and c is found again over the others until none does. No data, no weights. Small
matrices (k and v under grouped-query attention) are strongly spared, and large language models usually end up worse
than with the same sparsity everywhere. ERK adds the kernel's sides for convolutions; for linears it is the same rule,
so `er` and `erk` are one allocator.
"""

from dataclasses import dataclass

import numpy as np

from pruning.allocations.allocation import Allocation, AllocationJob, LayerSparsities
from pruning.allocations.balance import balanced, check_target


@dataclass(frozen=True)
class Er(Allocation):
    name = "er"

    def allocate(self, job: AllocationJob) -> LayerSparsities:
        """Sparsity 1 - density of every matrix, at most 0.95. Raises UserError for N:M and for targets above 0.95."""
        check_target(job, self.name)
        return balanced(job, 1 - densities([layer.shape for layer in job.layers], job.sparsity))


@dataclass(frozen=True)
class Erk(Er):
    name = "erk"


def densities(shapes: list[tuple[int, int]], sparsity: float) -> np.ndarray:
    """(matrices,) densities in (0, 1] of (out, in) matrices, before any cap; 0 <= sparsity < 1."""
    sides = np.array(shapes, float)
    sizes, perimeters = sides.prod(axis=1), sides.sum(axis=1)
    density = np.ones(len(shapes))
    sparse = np.ones(len(shapes), bool)
    while sparse.any():
        budget = (1 - sparsity) * sizes.sum() - sizes[~sparse].sum()
        density[sparse] = budget / perimeters[sparse].sum() * (perimeters / sizes)[sparse]
        full = density > 1
        if not full.any():
            break
        density[full] = 1
        sparse &= ~full
    return density
