"""From what an allocator proposes to sparsities within [0, 0.95] that meet the target exactly (methods 17)."""

from collections.abc import Mapping, Sequence

import numpy as np

from pruning.allocations.allocation import AllocationJob, LayerSparsities
from pruning.shifting import shifted
from workloads.errors import UserError

CAP = 0.95  # no matrix is emptied
FLAT = 1e-6  # scores closer than this, relative to the largest, differ by rounding alone


def balance(raw: np.ndarray, sizes: np.ndarray, sparsity: float) -> np.ndarray:
    """s_l = clip(raw_l + t, 0, CAP) with one shift t for all, such that sum N_l s_l = sparsity * sum N_l to rounding.

    raw, sizes (matrices,), finite; 0 <= sparsity <= CAP.
    """
    assert bool(np.isfinite(raw).all())
    assert 0 <= sparsity <= CAP
    return shifted(raw, sizes, sparsity * sizes.sum(), 0, CAP)


def balanced(job: AllocationJob, raw: Sequence[float] | np.ndarray) -> LayerSparsities:
    """Raw sparsities, one for each of job.layers, balanced."""
    sizes = np.array([layer.n_weights for layer in job.layers], float)
    found = balance(np.asarray(raw, float), sizes, job.sparsity)
    return LayerSparsities({layer.name: float(s) for layer, s in zip(job.layers, found, strict=True)})


def spread(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """(v - min) / (max - min), and 0 for all where they do not differ: one block, or equal scores."""
    scores = np.asarray(values, float)
    width = scores.max() - scores.min()
    if width <= FLAT * np.abs(scores).max():
        return np.zeros_like(scores)
    return (scores - scores.min()) / width


def of_blocks(job: AllocationJob, values: Mapping[int, float]) -> list[float]:
    """One value for each of job.layers: its block's."""
    return [values[layer.block] for layer in job.layers]


def check_target(job: AllocationJob, allocator: str) -> None:
    """Raises UserError for an N:M target, and for a sparsity that none under the cap can reach."""
    if job.pattern is not None:
        raise UserError(
            f"allocation {allocator!r} has no N:M form, the target is {job.pattern}; use 'owl', an unstructured "
            "target, or no allocation"
        )
    if not 0 <= job.sparsity <= CAP:
        raise UserError(
            f"allocation {allocator!r} gives no matrix more than {CAP} sparsity, the mean cannot be {job.sparsity:g}; "
            f"lower the target to at most {CAP}, or use no allocation"
        )
