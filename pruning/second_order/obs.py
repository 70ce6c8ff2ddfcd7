"""The optimal-brain-surgeon walk that SparseGPT and GPTQ share (methods 2.1, 2.2, 18.3; Frantar and Alistarh 2022,
2023).

Columns go from left to right. What a column loses by pruning or rounding, e = (w - q) / U_jj, is made up for by the
columns right of it, w_k -= e U_jk, where U is the upper Cholesky factor of the inverse of the damped H = X^T X.

Given its mask every row is a problem of its own, so rows are worked on in chunks of fixed size, a slab of columns at a
time: in a compiled loop over the slab that stays in the cache, then one matrix product for all columns right of it.
"""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

import numba
import numpy as np
import torch

from pruning.parallel import ordered_map
from pruning.quantization_grid import QuantizationGrid, Quantized, fit
from pruning.rules import lowest_of_rows, pruned_count
from workloads.patterns import NofM

ROWS = 512  # a chunk; fixed, so that results do not depend on the number of threads
RETRIES = 4  # of ten times the damping each
Grids = Literal["pruned", "dense"]


@dataclass(frozen=True)
class Factor:
    """upper (in, in) float32: U of above; dead (in,) bool: inputs that were always 0; remedy: what had to be done when
    the plain factorisation failed, "" if nothing."""

    upper: torch.Tensor
    dead: torch.Tensor
    remedy: str = ""


def factorise(hessian: torch.Tensor, damping: float) -> Factor:
    """H^-1 = U^T U of hessian (in, in) float32, which is left alone, damped by `damping` times its mean diagonal
    (methods 2.1).

    If that fails: damping ten times as large, up to four times; then float64; then the diagonal alone.
    """
    hessian = hessian.clone()
    diagonal = hessian.diagonal()
    dead = diagonal == 0
    diagonal[dead] = 1
    mean = float(diagonal.mean())
    for attempt in range(RETRIES + 1):
        tried = damping * 10**attempt
        upper = _upper(hessian, tried * mean)
        if upper is not None:
            return Factor(upper, dead, f"damping {tried:g} instead of {damping:g}" if attempt else "")
    upper = _upper(hessian.double(), tried * mean)
    if upper is not None:
        return Factor(upper.float(), dead, f"damping {tried:g} and float64")
    return Factor(torch.diag((diagonal + tried * mean).clamp_min(1e-30).rsqrt()), dead, "its diagonal alone")


def _upper(hessian: torch.Tensor, added: float) -> torch.Tensor | None:
    damped = hessian.clone()
    damped.diagonal().add_(added)
    lower, failed = torch.linalg.cholesky_ex(damped)
    if bool(failed):
        return None
    upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
    return None if bool(failed) or not bool(torch.isfinite(upper).all()) else upper


@dataclass(frozen=True)
class MaskChoice:
    """How the walk comes by its mask: `keep` given; or an N:M pattern; or a share of every slab of columns, lowest
    scores (w_rj / U_jj)^2 first. released: of every slab floor(its share) + 1, as the released program does."""

    keep: torch.Tensor | None = None
    pattern: NofM | None = None
    sparsity: float = 0.0
    released: bool = False

    def takes_from(self, weight: torch.Tensor) -> bool:
        """Whether a (rows, cols) weight loses anything that is not 0 already; a mask that is yet to be chosen does."""
        if self.keep is not None:
            return bool(weight[~self.keep].any())
        return self.pattern is not None or self.sparsity > 0 or self.released

    def count(self, rows: int, start: int, stop: int) -> int:
        """Weights to prune in the slab of columns start..stop."""
        if self.released:
            return min(pruned_count(rows * (stop - start), self.sparsity) + 1, rows * (stop - start))
        return pruned_count(rows * stop, self.sparsity) - pruned_count(rows * start, self.sparsity)


@dataclass(frozen=True)
class Compensated:
    """weight (rows, cols) float32 with pruned entries 0; keep (rows, cols) bool; quantized if there was a grid."""

    weight: torch.Tensor
    keep: torch.Tensor
    quantized: Quantized | None


def compensate(
    weight: torch.Tensor,
    factor: Factor,
    selection: MaskChoice,
    blocksize: int = 128,
    grid: QuantizationGrid | None = None,
    order: torch.Tensor | None = None,
    static_groups: bool = False,
    grids: Grids = "pruned",
) -> Compensated:
    """Prunes, or rounds, or both, a (rows, cols) float32 weight, which is left alone.

    Masks of unstructured selections are chosen a slab of `blocksize` columns at a time, exact in count up to each
    slab's end. Grids: where nothing more is pruned, one a row is fitted before the walk; groups are fitted when the
    walk comes to them, to the weights as they are then, or all before it (static_groups). Where something is, to what a
    walk without rounding leaves (pruned), for survivors that make up for many grow beyond the ends of earlier grids, or
    as before (dense; of a mask that is given, to those it keeps). `order` permutes the columns (GPTQ's act-order; the
    factor must be of the permuted H); it needs static groups where there are groups. N:M runs must not be split by
    blocksize or groups.
    """
    walk = partial(_walk, weight, factor, selection, blocksize, order, static_groups)
    if grid is None or grids == "dense" or not selection.takes_from(weight):
        return walk(grid)
    return walk(grid, walk(None).weight)


def _walk(
    weight: torch.Tensor,
    factor: Factor,
    selection: MaskChoice,
    blocksize: int,
    order: torch.Tensor | None,
    static_groups: bool,
    grid: QuantizationGrid | None,
    fitted_to: torch.Tensor | None = None,
) -> Compensated:
    """One walk of `compensate`; grids are those of `fitted_to`, where that is given."""
    work = weight.clone()
    work[:, factor.dead] = 0
    rows, cols = work.shape
    chosen = selection.keep is not None
    keep = torch.ones_like(work, dtype=torch.bool) if selection.keep is None else selection.keep.clone()
    rounding = None if grid is None else _Rounding(grid, work * keep if fitted_to is None else fitted_to)
    if order is not None:
        work, keep = work[:, order], keep[:, order]
        if rounding is not None:
            rounding.group_of = rounding.group_of[order]
    refit = rounding is not None and rounding.width < cols and not static_groups and order is None and fitted_to is None
    edges = sorted({*range(0, cols, blocksize), *(range(0, cols, rounding.width) if refit and rounding else ()), cols})
    for start, stop in pairwise(edges):
        if not chosen and selection.pattern is None and start % blocksize == 0:
            end = min(start + blocksize, cols)
            scores = (work[:, start:end] / factor.upper.diagonal()[start:end]).square()
            keep[:, start:end] = ~lowest_of_rows(scores.reshape(1, -1), selection.count(rows, start, end)).reshape(
                scores.shape
            )
        if rounding is not None and refit and start % rounding.width == 0:
            group = slice(start, start + rounding.width)
            rounding.refit(start // rounding.width, work[:, group] * keep[:, group] if chosen else work[:, group])
        slab = _Slab(factor.upper[start:stop], start, None if chosen else selection.pattern)
        pieces = [
            (work[r : r + ROWS], keep[r : r + ROWS, start:stop], rounding and rounding.piece(r, start, stop))
            for r in range(0, rows, ROWS)
        ]
        for _ in ordered_map(partial(_advance, slab), pieces):
            pass
    back = None if order is None else order.argsort()
    if back is not None:
        work, keep = work[:, back].contiguous(), keep[:, back].contiguous()
    return Compensated(work, keep, None if rounding is None else rounding.quantized(back))


@dataclass(frozen=True)
class RoundingPiece:
    """Of some rows and columns: the highest code, codes to fill in (rows, width) uint8, and each weight's scale and
    zero point, (rows, width) float32."""

    top: int
    codes: torch.Tensor
    scale: torch.Tensor
    zero: torch.Tensor


class _Rounding:
    """The grids of a weight during the walk; group_of (cols,) is the group of every column in walking order."""

    def __init__(self, grid: QuantizationGrid, weight: torch.Tensor):
        self.grid = grid
        self.width = grid.width(weight.shape[1])
        self.group_of = torch.arange(weight.shape[1], device=weight.device) // self.width
        self._scale, self._zero = fit(weight, grid)
        self._codes = torch.zeros_like(weight, dtype=torch.uint8)

    def refit(self, group: int, weight: torch.Tensor) -> None:
        """weight (rows, width): the group's columns as they are now."""
        scale, zero = fit(weight, self.grid)
        self._scale[:, group], self._zero[:, group] = scale[:, 0], zero[:, 0]

    def piece(self, row: int, start: int, stop: int) -> RoundingPiece:
        rows, groups = slice(row, row + ROWS), self.group_of[start:stop]
        return RoundingPiece(
            self.grid.top, self._codes[rows, start:stop], self._scale[rows][:, groups], self._zero[rows][:, groups]
        )

    def quantized(self, back: torch.Tensor | None) -> Quantized:
        codes = self._codes if back is None else self._codes[:, back].contiguous()
        return Quantized(self.grid, codes, self._scale, self._zero.to(torch.uint8))


@dataclass(frozen=True)
class _Slab:
    """Columns start.. of the walk: upper (width, in) are their rows of U."""

    upper: torch.Tensor
    start: int
    pattern: NofM | None


def _advance(slab: _Slab, piece: tuple[torch.Tensor, torch.Tensor, RoundingPiece | None]) -> None:
    """Sweeps a slab of some rows, in place, and carries its errors to all columns right of it."""
    work, keep, rounding = piece
    start, stop = slab.start, slab.start + len(slab.upper)
    walk = walk_slab if work.device.type == "cpu" else walk_slab_on_device
    errors = walk(work[:, start:stop], slab.upper[:, start:stop], keep, slab.pattern, rounding)
    if stop < work.shape[1]:
        work[:, stop:] -= errors @ slab.upper[:, stop:]


def walk_slab(
    work: torch.Tensor, upper: torch.Tensor, keep: torch.Tensor, pattern: NofM | None, rounding: RoundingPiece | None
) -> torch.Tensor:
    """The compiled walk over the columns of a slab: work (rows, width) becomes the pruned and rounded weights, in
    place; keep and the codes are filled in; returns the errors e (rows, width)."""
    local = np.ascontiguousarray(work.numpy())
    mask = np.ascontiguousarray(keep.numpy())
    errors = np.zeros_like(local)
    if rounding is None:
        top, codes, scale, zero = 0, np.zeros((0, 0), np.uint8), errors, errors
    else:
        top, codes = rounding.top, np.zeros(local.shape, np.uint8)
        scale, zero = (np.ascontiguousarray(part.numpy()) for part in (rounding.scale, rounding.zero))
    n, m = (pattern.n, pattern.m) if pattern else (0, 0)
    _walk_rows(local, np.ascontiguousarray(upper.numpy()), mask, n, m, np.float32(top), codes, scale, zero, errors)
    work.copy_(torch.from_numpy(local))
    keep.copy_(torch.from_numpy(mask))
    if rounding is not None:
        rounding.codes.copy_(torch.from_numpy(codes))
    return torch.from_numpy(errors)


@numba.njit(nogil=True, cache=True)
def _walk_rows(work, upper, keep, n, m, top, codes, scale, zero, errors):  # pragma: no cover (compiled)
    rows, width = work.shape
    for r in range(rows):
        row = work[r]
        for j in range(width):
            if m > 0 and j % m == 0:
                for k in range(j, j + m):
                    keep[r, k] = True
                for _ in range(m - n):
                    lowest, place = np.float32(np.inf), -1
                    for k in range(j, j + m):
                        if keep[r, k]:
                            ratio = row[k] / upper[k, k]
                            if place < 0 or ratio * ratio < lowest:
                                lowest, place = ratio * ratio, k
                    keep[r, place] = False
            q = row[j] if keep[r, j] else np.float32(0)
            if top > 0:
                code = np.rint(q / scale[r, j]) + zero[r, j]
                code = min(max(code, np.float32(0)), top)
                codes[r, j] = np.uint8(code)
                q = (code - zero[r, j]) * scale[r, j]
            error = (row[j] - q) / upper[j, j]
            if error != 0:
                errors[r, j] = error
                for k in range(j + 1, width):
                    row[k] -= error * upper[j, k]
            row[j] = q


def walk_slab_on_device(
    work: torch.Tensor, upper: torch.Tensor, keep: torch.Tensor, pattern: NofM | None, rounding: RoundingPiece | None
) -> torch.Tensor:
    """`walk_slab` a column at a time in torch, for weights that are not in the memory of the CPU."""
    errors = torch.zeros_like(work)
    diagonal = upper.diagonal()
    for j in range(work.shape[1]):
        if pattern is not None and j % pattern.m == 0:
            run = slice(j, j + pattern.m)
            scores = (work[:, run] / diagonal[run]).square()
            keep[:, run] = ~lowest_of_rows(scores, pattern.m - pattern.n)
        q = torch.where(keep[:, j], work[:, j], 0.0)
        if rounding is not None:
            scale, zero = rounding.scale[:, j], rounding.zero[:, j]
            code = ((q / scale).round() + zero).clamp(0, rounding.top)
            rounding.codes[:, j] = code.to(torch.uint8)
            q = (code - zero) * scale
        errors[:, j] = (work[:, j] - q) / diagonal[j]
        work[:, j + 1 :] -= errors[:, j, None] * upper[j, j + 1 :]
        work[:, j] = q
    return errors
