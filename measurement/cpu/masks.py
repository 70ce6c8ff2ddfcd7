"""The weights that are left of drawn ones, for kernels whose time depends on how many there are."""

import torch
from torch import Tensor

from workloads.patterns import parse_pattern


def kept_by_pattern(weight: Tensor, pattern: str, density: float) -> Tensor:
    """The largest magnitudes of each run of m for "N:M"; of the whole matrix, `density` of them, for "unstructured"."""
    runs = parse_pattern(pattern)
    if runs is None:
        return weight * _largest(weight.abs().flatten(), density).reshape(weight.shape)
    groups = weight.reshape(-1, runs.m)
    order = groups.abs().argsort(dim=1, descending=True)[:, : runs.n]
    return (groups * torch.zeros_like(groups).scatter_(1, order, 1)).reshape(weight.shape)


def blocks_kept(weight: Tensor, side: int, density: float) -> Tensor:
    """The blocks of side x side with the largest norms."""
    rows, cols = weight.shape
    blocks = weight.reshape(rows // side, side, cols // side, side)
    kept = _largest(blocks.square().sum((1, 3)).flatten(), density).reshape(rows // side, 1, cols // side, 1)
    return (blocks * kept).reshape(rows, cols)


def rows_kept(rows: int, density: float) -> int:
    return max(1, round(rows * density))


def _largest(scores: Tensor, density: float) -> Tensor:
    """(n,) bool: the largest `density` of them, one at least."""
    count = max(1, round(len(scores) * density))
    mask = torch.zeros(len(scores), dtype=torch.bool)
    mask[scores.topk(count, sorted=False).indices] = True
    return mask
