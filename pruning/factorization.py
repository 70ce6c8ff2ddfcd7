"""A weight projected onto a product of two factors (methods 8.1, 8.2; workloads/factors.py says which entries make up
a sub-matrix): every sub-matrix, rows {g, g + groups, ...} of one block of columns, becomes its truncated SVD, which no
other matrix of that rank comes nearer (Eckart and Young 1936).

With roots L, L L^T = X^T X of a block's inputs, what is nearest is the output on those inputs, |(W - W_hat) L|, not the
weight: W L = P S Q^T, left P_r S_r^1/2, right S_r^1/2 Q_r^T L^-1. The singular values go to both factors alike."""

import torch

from checkpoints.factored import Pair
from workloads.errors import UserError
from workloads.factors import Factors

RETRIES = 4  # of ten times the damping each


def project(weight: torch.Tensor, sizes: Factors, roots: list[torch.Tensor] | None = None) -> Pair:
    """The factors, float32, of a weight (out, in). roots: one a block of columns, lower (in / c, in / c) float64; None:
    the weight itself is approximated."""
    (columns, width, cols), groups = sizes.first, sizes.second[0]
    rank = width // groups
    first, second = (weight.new_empty(blocks, dtype=torch.float32) for blocks in (sizes.first, sizes.second))
    for k in range(columns):
        for g in range(groups):
            part = weight[g::groups, k * cols : (k + 1) * cols].double()
            left, right = truncated(part, rank, None if roots is None else roots[k])
            second[g, :, k * rank : (k + 1) * rank] = left
            first[k, g::groups] = right
    return first, second


def truncated(part: torch.Tensor, rank: int, root: torch.Tensor | None = None) -> Pair:
    """(rows, rank) and (rank, cols) float64."""
    left, values, right = torch.linalg.svd(part if root is None else part @ root, full_matrices=False)
    half = values[:rank].sqrt()
    right = half[:, None] * right[:rank]
    if root is not None:
        right = torch.linalg.solve_triangular(root, right, upper=False, left=False)
    return left[:, :rank] * half, right


def roots_of(hessian: torch.Tensor, columns: int, damping: float) -> tuple[list[torch.Tensor], float]:
    """Lower Cholesky factors, float64, of the diagonal blocks of X^T X (in, in) plus `damping` times its mean diagonal;
    and the damping it took: ten times as much where that fails, up to four times. Raises UserError if none does."""
    mean = float(hessian.diagonal().double().mean())
    for attempt in range(RETRIES + 1):
        tried = damping * 10**attempt
        made = []
        for block in _diagonal_blocks(hessian, columns):
            block.diagonal().add_(tried * mean)
            lower, failed = torch.linalg.cholesky_ex(block)
            if bool(failed) or not bool(torch.isfinite(lower).all()):
                break
            made.append(lower)
        if len(made) == columns:
            return made, tried
    raise UserError("X^T X of its inputs cannot be factorised; raise `damping`, or use `data_aware=false`")


def _diagonal_blocks(hessian: torch.Tensor, columns: int) -> list[torch.Tensor]:
    """Copies, float64."""
    size = len(hessian) // columns
    return [hessian[k * size : (k + 1) * size, k * size : (k + 1) * size].double().clone() for k in range(columns)]
