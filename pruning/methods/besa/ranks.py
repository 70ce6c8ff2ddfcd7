"""Importance ranks of weights, masks from counts of them, and sums by rank: the inner loops of BESA.

A weight's rank is its place among the entries it is compared with (its row, or its run of m inputs), the least
important 0; ties go to the lower index. A mask keeps rank >= count[row]. BESA's gradient needs, for every row, sums of
products over all ranks below each candidate count (methods 4.4): ranks are dropped into the bins between candidates,
one pass over the matrix, instead of dense soft masks.
"""

import numba
import numpy as np
import torch

from pruning.parallel import ordered_map

CHUNK = 1 << 24  # weights whose 64-bit sorting indices are in memory at once
PIECE = 1 << 21  # weights a thread works on


def ranks_of(scores: torch.Tensor, width: int) -> torch.Tensor:
    """(rows, cols) int16 (int32 for runs of 32,768 and more) ranks of (rows, cols) scores within runs of `width`
    inputs, which must divide cols; width = cols compares whole rows."""
    rows, cols = scores.shape
    ranks = torch.empty((rows, cols), dtype=torch.int16 if width < 1 << 15 else torch.int32, device=scores.device)
    places = torch.arange(width, dtype=ranks.dtype, device=scores.device)
    step = max(1, CHUNK // cols)
    for start in range(0, rows, step):
        runs = scores[start : start + step].reshape(-1, width)
        order = runs.argsort(dim=1, stable=True)
        made = torch.empty_like(runs, dtype=ranks.dtype).scatter_(1, order, places.expand_as(order))
        ranks[start : start + step] = made.reshape(-1, cols)
    return ranks


def keep_above(ranks: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """(rows, cols) bool: rank >= counts[row]."""
    return ranks >= counts.to(ranks.dtype)[:, None]


def write_masked(target: torch.Tensor, weight: torch.Tensor, ranks: torch.Tensor, counts: torch.Tensor) -> None:
    """target (rows, cols) of any type becomes weight (rows, cols) float32 where rank >= counts[row], 0 elsewhere."""
    if not (target.is_contiguous() and target.dtype == torch.float32 and target.device.type == "cpu"):
        target.copy_(weight * keep_above(ranks, counts))
        return
    limits = counts.to(ranks.dtype)

    def task(span: tuple[int, int]) -> None:
        rows = slice(*span)
        _mask(target[rows].numpy(), weight[rows].numpy(), ranks[rows].numpy(), limits[rows].numpy())

    for _ in ordered_map(task, spans(target)):
        pass


def spans(matrix: torch.Tensor) -> list[tuple[int, int]]:
    """Row ranges that threads share a matrix by."""
    step = max(1, PIECE // matrix.shape[1])
    return [(start, min(start + step, len(matrix))) for start in range(0, len(matrix), step)]


def sums_below(
    gradient: torch.Tensor, weight: torch.Tensor, ranks: torch.Tensor, thresholds: torch.Tensor, width: int
) -> torch.Tensor:
    """(rows, D) float32: sum of gradient * weight over the entries of a row with rank < thresholds[d].

    gradient, weight: (rows, cols) float32; thresholds: (D,) ascending, within 0..width; ranks within runs of `width`.
    """
    bins = torch.searchsorted(thresholds.cpu(), torch.arange(width), right=True)  # first candidate that takes a rank
    if gradient.device.type == "cpu":
        table, weight = bins.to(torch.uint8 if len(thresholds) < 256 else torch.int32).numpy(), weight.contiguous()

        def task(span: tuple[int, int]) -> np.ndarray:
            rows = slice(*span)
            return _binned(gradient[rows].numpy(), weight[rows].numpy(), ranks[rows].numpy(), table, len(thresholds))

        return torch.from_numpy(np.concatenate(list(ordered_map(task, spans(gradient))))).cumsum(dim=1).float()
    bins = bins.to(gradient.device)
    sums = torch.zeros((len(gradient), len(thresholds) + 1), dtype=torch.float32, device=gradient.device)
    step = max(1, CHUNK // gradient.shape[1])
    for start in range(0, len(gradient), step):
        rows = slice(start, start + step)
        sums[rows].scatter_add_(1, bins[ranks[rows].long()], gradient[rows] * weight[rows])
    return sums[:, :-1].cumsum(dim=1)


@numba.njit(nogil=True, cache=True)
def _mask(target, weight, ranks, limits):  # pragma: no cover (compiled)
    rows, cols = weight.shape
    for r in range(rows):
        limit = limits[r]
        for c in range(cols):
            target[r, c] = weight[r, c] if ranks[r, c] >= limit else np.float32(0)


@numba.njit(nogil=True, cache=True)
def _binned(gradient, weight, ranks, table, count):  # pragma: no cover (compiled)
    rows, cols = gradient.shape
    sums = np.zeros((rows, count))
    row_sums = np.zeros(count + 1)
    for r in range(rows):
        row_sums[:] = 0
        for c in range(cols):
            row_sums[table[ranks[r, c]]] += np.float64(gradient[r, c]) * np.float64(weight[r, c])
        sums[r] = row_sums[:count]
    return sums
