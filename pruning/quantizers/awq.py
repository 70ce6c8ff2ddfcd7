"""AWQ: activation-aware scales and clipping (Lin et al., MLSys 2024).

Inputs that are large on average get finer steps: matrices fed by the same tensor (q, k, v; gate and up) share one
scale t per input, W' = Q(W diag(t)) diag(t)^-1, t = x_mean^r normalised to sqrt(max t min t) = 1, with the r of 0,
1/20, ..., 19/20 of least output error. Then every range is clipped to the best of 1, 0.95, ..., 0.55 of its largest
|weight|, except in q, k and fused qkv.

Where pruning came first, W is what it left (masks are decided before weights are scaled), and outputs are still
compared with the dense linear's: a grid that makes pruned outputs exact can shrink them further from what they should
be.

Deviations. (1) The error is that of the linears' own outputs, sum over tokens |(W' - W_dense) x|^2 = tr(D H D^T),
exact over all calibration tokens; the release runs the attention or the MLP on at most 512 of them. (2) As there, the
clip of a group looks at the error of its own inputs; but rows that all their clips together make worse keep their
whole ranges. (3) t stays beside the codes and divides the weights taken off the grid; the release folds 1/t into what
produces the inputs. So o is scaled under grouped-query attention too, and every expert has scales of its own. (4)
Grids are those of this package, which always hold 0.
"""

from dataclasses import dataclass, replace

import torch

from checkpoints.discovery import LinearRef
from pruning.block_job import BlockJob, Decision
from pruning.evidence.moments import Moments
from pruning.evidence.needs import Need
from pruning.quantization_grid import QuantizationGrid, Quantized, from_range, quantize
from pruning.quantizers.quantizer import Quantizer
from pruning.quantizers.rtn import grid_of, nearest, on_grid, pruned_weight
from workloads.errors import UserError

RATIOS = tuple(i / 20 for i in range(20))
CLIPS = tuple(1 - i / 20 for i in range(10))
LEAST_SCALE = 1e-4
UNCLIPPED = frozenset({"q", "k", "qkv"})


@dataclass(frozen=True)
class Awq(Quantizer):
    """scale_search: scale the inputs. clip_search: clip the ranges."""

    scale_search: bool = True
    clip_search: bool = True

    name = "awq"
    needs = frozenset({Need.ABSOLUTE, Need.HESSIAN})

    def apply(self, job: BlockJob, decisions: dict[str, Decision]) -> dict[str, Decision]:
        """The decisions with every matrix on its grid. Raises UserError where calibration inputs are not finite.

        Matrices that no calibration token reached are rounded to nearest, and the log says so.
        """
        made = {}
        for refs, moments in sharing_inputs(job):
            linears = [
                Linear(pruned_weight(job, ref, decisions[ref.layer.name]), job.weight(ref), grid_of(job, ref))
                for ref in refs
            ]
            if moments is None:
                for ref in refs:
                    job.warn(f"{ref.layer.name}: {job.why_unseen(ref.layer.name)}; rounded to nearest")
                found = [nearest(linear.weight, linear.grid) for linear in linears]
            else:
                check_finite(refs[0], moments)
                scale = search_scale(linears, moments) if self.scale_search else None
                found = [
                    with_scale(linear, moments, scale, self.clip_search and ref.layer.role not in UNCLIPPED)
                    for ref, linear in zip(refs, linears, strict=True)
                ]
            for ref, quantized in zip(refs, found, strict=True):
                made[ref.layer.name] = on_grid(decisions[ref.layer.name], quantized)
        return made


@dataclass(frozen=True)
class Linear:
    """weight: what pruning left; dense: the weight whose outputs are wanted; both (rows, in) float32."""

    weight: torch.Tensor
    dense: torch.Tensor
    grid: QuantizationGrid


def sharing_inputs(job: BlockJob) -> list[tuple[list[LinearRef], Moments | None]]:
    """The matrices by the tensor that feeds them, in module order; moments None where nothing, or only zeros, came
    in."""
    assert job.moments is not None
    groups: dict[int, tuple[list[LinearRef], Moments | None]] = {}
    for ref in job.refs:
        moments = job.moments.sums.get(ref.layer.name)
        if moments is not None and not bool(moments.energy.any()):
            moments = None
        groups.setdefault(id(ref if moments is None else moments), ([], moments))[0].append(ref)
    return list(groups.values())


def check_finite(ref: LinearRef, moments: Moments) -> None:
    assert moments.hessian is not None
    if not bool(torch.isfinite(moments.hessian).all()):
        raise UserError(
            f"{ref.layer.name}: calibration inputs are NaN, Inf or too large to be squared; use `dtype=float32`"
        )


def search_scale(linears: list[Linear], moments: Moments) -> torch.Tensor | None:
    """(in,) float32 scale of the inputs that the linears share; None where nothing beats leaving them."""
    assert moments.absolute is not None
    assert moments.hessian is not None
    mean = (moments.absolute / moments.tokens).float()
    best, least = None, float("inf")
    for ratio in RATIOS:
        scale = mean.pow(ratio).clamp_min(LEAST_SCALE)
        scale = scale / (scale.max() * scale.min()).sqrt()
        error = 0.0
        for linear in linears:
            found = nearest(linear.weight * scale, linear.grid).dequantize() / scale
            error += float(row_errors(found - linear.dense, moments.hessian).sum(dtype=torch.float64))
        if error < least:
            best, least = scale if ratio else None, error
    return best


def row_errors(difference: torch.Tensor, hessian: torch.Tensor) -> torch.Tensor:
    """(..., rows) sums over tokens of (d x)^2, given d (..., rows, in) and sum_t x_t x_t^T (..., in, in)."""
    return (difference @ hessian).mul_(difference).sum(dim=-1)


def with_scale(linear: Linear, moments: Moments, scale: torch.Tensor | None, clip: bool) -> Quantized:
    """The linear's weight on the grid of its scaled self, ranges clipped if asked for."""
    hessian = moments.hessian
    assert hessian is not None
    if scale is not None:
        linear = Linear(linear.weight * scale, linear.dense * scale, linear.grid)
        if clip:
            hessian = hessian / scale / scale[:, None]
    found = clipped(linear, hessian) if clip else nearest(linear.weight, linear.grid)
    return replace(found, input_scale=scale)


def clipped(linear: Linear, hessian: torch.Tensor) -> Quantized:
    """The weight on the grids of its clipped ranges, in the rows that gain by it."""
    plain = nearest(linear.weight, linear.grid)
    found = quantize(linear.weight, *fit_clipped(linear, hessian), linear.grid)
    before, after = (row_errors(q.dequantize().sub_(linear.dense), hessian) for q in (plain, found))
    gains = (after < before)[:, None]
    scale, zero = torch.where(gains, found.scale, plain.scale), torch.where(gains, found.zero, plain.zero)
    return replace(found, codes=torch.where(gains, found.codes, plain.codes), scale=scale, zero=zero)


def fit_clipped(linear: Linear, hessian: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(scale, zero), each (rows, groups) float32, by the clipped range of least output error in each group alone."""
    width = linear.grid.width(linear.weight.shape[1])
    groups = linear.weight.reshape(len(linear.weight), -1, width)
    low, high = groups.amin(dim=2), groups.amax(dim=2)
    largest = torch.maximum(high, -low)
    n_groups = groups.shape[1]
    blocks = hessian.reshape(n_groups, width, n_groups, width).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    blocks = blocks.contiguous()  # (groups, width, width)
    scale, zero = from_range(low, high, linear.grid)
    least = torch.full_like(low, torch.inf)
    for clip in CLIPS:
        limit = clip * largest
        tried_scale, tried_zero = from_range(torch.maximum(low, -limit), torch.minimum(high, limit), linear.grid)
        off = quantize(linear.weight, tried_scale, tried_zero, linear.grid).dequantize().sub_(linear.dense)
        error = row_errors(off.reshape(groups.shape).transpose(0, 1), blocks).T
        better = error < least  # ties stay with the wider range
        least = torch.where(better, error, least)
        scale, zero = torch.where(better, tried_scale, scale), torch.where(better, tried_zero, zero)
    return scale, zero
