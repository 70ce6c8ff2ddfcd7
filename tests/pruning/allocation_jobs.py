"""Matrices to allocate among, and what allocators are held against: shared by their tests."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
import torch

from pruning.allocations import ALLOCATIONS, AllocationJob, LayerSparsities
from pruning.allocations.balance import CAP
from workloads.layers import Layer
from workloads.patterns import NofM

Matrix = tuple[Layer, torch.Tensor, torch.Tensor | None]

# (block, role, out, in): grouped-query attention; experts in the second block only, so that block sizes differ.
ATTENTION = [("q", 24, 24), ("k", 8, 24), ("v", 8, 24), ("o", 24, 24)]
GQA = [(block, *shape) for block in range(3) for shape in [*ATTENTION, ("up", 40, 24), ("down", 24, 40)]]
MOE = [
    *[(block, *shape) for block in range(2) for shape in ATTENTION],
    *[(1, f"expert_{kind}", 16, 24) for kind in ("gate", "up") for _ in range(4)],
]
ONE_BLOCK = [(0, *shape) for shape in ATTENTION]
SHAPES = {"gqa": GQA, "moe": MOE, "one block": ONE_BLOCK, "one matrix": [(0, "q", 16, 8)]}


def matrices_of(shapes: Sequence[tuple[int, str, int, int]], seed: int = 0) -> list[Matrix]:
    """Heavy-tailed random weights; every fifth matrix was reached by no token."""
    draw = torch.Generator().manual_seed(seed)
    made: list[Matrix] = []
    for n, (block, role, rows, cols) in enumerate(shapes):
        weight = torch.randn(rows, cols, generator=draw) ** (1 + 2 * (n % 3))
        norm = torch.rand(cols, generator=draw) ** 4 * 10
        made.append(
            (Layer(f"blocks.{block}.{role}.{n}", role, block, rows, cols), weight, None if n % 5 == 4 else norm)
        )
    return made


def job_of(matrices: Sequence[Matrix], sparsity: float, pattern: NofM | None = None) -> AllocationJob:
    return AllocationJob(
        [layer for layer, _, _ in matrices], sparsity, pattern,
        lambda: ((layer, weight) for layer, weight, _ in matrices), lambda: iter(matrices),
    )  # fmt: skip


def allocate(name: str, job: AllocationJob, **settings: object) -> LayerSparsities:
    return ALLOCATIONS[name].with_settings(settings).allocate(job)


def mean_of(job: AllocationJob, sparsities: LayerSparsities) -> float:
    """Of all weights, in exact arithmetic."""
    pruned = sum(Fraction(sparsities.sparsity[layer.name]) * layer.n_weights for layer in job.layers)
    return float(pruned / sum(layer.n_weights for layer in job.layers))


def slow_balance(raw: Sequence[float], sizes: Sequence[int], sparsity: float) -> list[float]:
    """Between neighbouring shifts at which some matrix enters or leaves a bound, the sum is a line: solve that."""

    def at(shift: Fraction) -> list[Fraction]:
        return [min(max(Fraction(r) + shift, Fraction(0)), Fraction(CAP)) for r in raw]

    def pruned(shift: Fraction) -> Fraction:
        return sum((n * s for n, s in zip(sizes, at(shift), strict=True)), Fraction(0))

    total = Fraction(sparsity) * sum(sizes)
    shifts = sorted({bound - Fraction(r) for r in raw for bound in (Fraction(0), Fraction(CAP))})
    for low, high in pairwise(shifts):
        if pruned(low) <= total <= pruned(high):
            rise = pruned(high) - pruned(low)
            shift = low + (high - low) * (total - pruned(low)) / rise if rise else low
            return [float(s) for s in at(shift)]
    raise AssertionError("no shift")


def geometric(step: float, count: int) -> np.ndarray:
    return np.exp(step * np.arange(count))
