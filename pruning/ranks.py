"""Importance ranks of weights, masks from counts of them, and sums by rank: the inner loops of BESA.

A weight's rank is its place among the entries it is compared with (its row, or its run of m inputs), the least important 0; ties
go to the lower index. A mask keeps rank >= count[row]. BESA's gradient needs, for every row, sums of products over all ranks
below each candidate count (methods 4.4): ranks are dropped into the bins between candidates, one pass over the matrix, instead of
dense soft masks.
"""

import numba
import numpy as np
import torch

CHUNK = 1 << 24  # weights whose 64-bit sorting indices are in memory at once


def ranks_of(scores: torch.Tensor, width: int) -> torch.Tensor:
    """(rows, cols) int16 (int32 for runs of 32,768 and more) ranks of (rows, cols) scores within runs of `width` inputs, which
    must divide cols; width = cols compares whole rows."""
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


def sums_below(
    gradient: torch.Tensor, weight: torch.Tensor, ranks: torch.Tensor, thresholds: torch.Tensor, width: int
) -> torch.Tensor:
    """(rows, D) float32: sum of gradient * weight over the entries of a row with rank < thresholds[d].

    gradient, weight: (rows, cols) float32; thresholds: (D,) ascending, within 0..width; ranks within runs of `width`.
    """
    bins = torch.searchsorted(thresholds.cpu(), torch.arange(width), right=True)  # first candidate that takes a rank
    if gradient.device.type == "cpu":
        table = bins.to(torch.int32).numpy()
        made = _binned(gradient.numpy(), weight.contiguous().numpy(), ranks.numpy(), table, len(thresholds))
        return torch.from_numpy(made).cumsum(dim=1).float()
    bins = bins.to(gradient.device)
    sums = torch.zeros((len(gradient), len(thresholds) + 1), dtype=torch.float32, device=gradient.device)
    step = max(1, CHUNK // gradient.shape[1])
    for start in range(0, len(gradient), step):
        rows = slice(start, start + step)
        sums[rows].scatter_add_(1, bins[ranks[rows].long()], gradient[rows] * weight[rows])
    return sums[:, :-1].cumsum(dim=1)


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
