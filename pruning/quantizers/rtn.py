"""Round to nearest: every weight to the nearest code of its grid. Needs no data.

The grid comes from the weights as pruning left them: zeros keep 0 in its range. `shrink` tries narrower ranges,
factors 1 - i/100, i = 0..79, and keeps the one with the least sum of |w - w_hat|^2.4 in each group.
"""

from dataclasses import dataclass, replace

import torch

from checkpoints.discovery import LinearRef
from pruning.block_job import BlockJob, Decision
from pruning.quantization_grid import QuantizationGrid, Quantized, fit, from_range, quantize
from pruning.quantizers.quantizer import Quantizer

SHRINKS = tuple(1 - i / 100 for i in range(80))
NORM = 2.4
SLAB = 1 << 22  # weights whose ranges are searched at once: bounds memory


@dataclass(frozen=True)
class Rtn(Quantizer):
    """shrink: search narrower ranges."""

    shrink: bool = False

    name = "rtn"

    def apply(self, job: BlockJob, decisions: dict[str, Decision]) -> dict[str, Decision]:
        """The decisions with every matrix on its grid."""
        find = fit_shrunk if self.shrink else fit
        made = {}
        for ref in job.refs:
            decision, grid = decisions[ref.layer.name], grid_of(job, ref)
            weight = pruned_weight(job, ref, decision)
            made[ref.layer.name] = on_grid(decision, quantize(weight, *find(weight, grid), grid))
        return made


def grid_of(job: BlockJob, ref: LinearRef) -> QuantizationGrid:
    grid = job.grid(ref)
    assert grid is not None  # quantizers run where the recipe has bits
    return grid


def pruned_weight(job: BlockJob, ref: LinearRef, decision: Decision) -> torch.Tensor:
    """(rows, cols) float32 that pruning left; never write into it."""
    return job.weight(ref).masked_fill(~decision.keep, 0) if decision.weight is None else decision.weight


def on_grid(decision: Decision, quantized: Quantized) -> Decision:
    """The decision with its weights quantized, pruned ones exactly 0."""
    masked = quantized.masked(decision.keep)
    return replace(decision, quantized=masked, weight=masked.dequantize())


def nearest(weight: torch.Tensor, grid: QuantizationGrid) -> Quantized:
    """A (rows, cols) float32 weight on the grid of its extremes."""
    return quantize(weight, *fit(weight, grid), grid)


def fit_shrunk(weight: torch.Tensor, grid: QuantizationGrid) -> tuple[torch.Tensor, torch.Tensor]:
    """(scale, zero), each (rows, groups) float32, with the best of the narrower ranges in each group."""
    slabs = weight.split(max(1, SLAB // weight.shape[1]))
    scales, zeros = zip(*(_search(slab, grid) for slab in slabs), strict=True)
    return torch.cat(scales), torch.cat(zeros)


def _search(weight: torch.Tensor, grid: QuantizationGrid) -> tuple[torch.Tensor, torch.Tensor]:
    groups = weight.reshape(len(weight), -1, grid.width(weight.shape[1]))
    low, high = groups.amin(dim=2), groups.amax(dim=2)
    scale, zero = from_range(low, high, grid)
    least = torch.full_like(low, torch.inf)
    for shrink in SHRINKS:
        tried_scale, tried_zero = from_range(shrink * low, shrink * high, grid)
        off = quantize(weight, tried_scale, tried_zero, grid).dequantize().sub_(weight).abs_().pow_(NORM)
        error = off.reshape(groups.shape).sum(dim=2)
        better = error < least  # ties stay with the wider range
        least = torch.where(better, error, least)
        scale, zero = torch.where(better, tried_scale, scale), torch.where(better, tried_zero, zero)
    return scale, zero
