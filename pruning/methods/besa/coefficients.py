"""How much each group of rows prunes, as something to learn (BESA, Xu et al., ICLR 2024, section 3; methods 4.1, 4.5).

A group chooses among candidate sparsities p_0 = 0 < ... < p_{D-1} = 1 with coefficients pi = softmax(x); its sparsity
is s_g = sum_d pi_d p_d. The exponents x are the learned logits themselves, or sigmoid(logits), which bounds them to (0,
1), so that s_g can only lie in about [0.376, 0.624] (D = 101).
"""

import math
from collections.abc import Sequence

import torch

KAPPA = 20.0  # how sharply the first coefficients point at the target, where it is not 0.5
STEEPEST = 100.0  # slope of bounded logits over the candidates: all but a step


def candidates(count: int) -> torch.Tensor:
    """(count,) float32 sparsities from 0 to 1, evenly spaced; count = 101 in the released program."""
    return torch.arange(count, dtype=torch.float32) / (count - 1)


def coefficients(logits: torch.Tensor, bounded: bool) -> torch.Tensor:
    """(..., D) pi of (..., D) logits."""
    return torch.softmax(torch.sigmoid(logits) if bounded else logits, dim=-1)


def first_logits(sparsity: float, points: torch.Tensor, bounded: bool) -> torch.Tensor:
    """(D,) float32 logits whose s_g is `sparsity`, which must be within `reach`: all 0 at 0.5, as released; elsewhere a
    bell around it, or, bounded, rising (falling) evenly."""
    exact = points.double()

    def tried(steepness: float) -> torch.Tensor:
        return steepness * (exact - 0.5) if bounded else -KAPPA * (exact - steepness).square()

    if abs(sparsity - 0.5) < 1e-9:
        return torch.zeros_like(points)
    low, high = (-STEEPEST, STEEPEST) if bounded else (-50.0, 51.0)
    for _ in range(200):
        middle = (low + high) / 2
        if float(coefficients(tried(middle), bounded) @ exact) < sparsity:
            low = middle
        else:
            high = middle
    return tried((low + high) / 2).float()


def reach(points: torch.Tensor) -> tuple[float, float]:
    """The least and the greatest s_g that bounded exponents can express: 0 for some candidates and 1 for the others."""
    values = []
    for split in range(len(points) + 1):
        weights = torch.ones(len(points), dtype=torch.float64)
        weights[:split] = math.e
        values.append(float(weights @ points.double() / weights.sum()))
    return min(values), 1 - min(values)


def whole_counts(
    wanted: Sequence[torch.Tensor], levels: Sequence[int], units: Sequence[int], total: int
) -> list[torch.Tensor]:
    """Pruning counts per row that sum to a block's target exactly (methods 4.5, exact projection).

    wanted: (rows,) sparsities a matrix; a row of matrix i prunes counts[i][r] of levels[i] steps of units[i] weights
    each, and sum_i units[i] * sum(counts[i]) = total if the units allow it (they do if one is 1 or all are equal and
    divide total), else less by as little as they allow. All sparsities are shifted by one constant and clipped to [0,
    1]; what rounding down leaves over goes to the rows with the largest fractions, ties to the first.
    """

    def shifted(shift: float) -> list[torch.Tensor]:
        return [(s.double() + shift).clamp(0, 1) * k for s, k in zip(wanted, levels, strict=True)]

    def weights_of(counts: list[torch.Tensor]) -> float:
        return sum(u * float(c.sum()) for u, c in zip(units, counts, strict=True))

    low, high = -1.0, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        if weights_of(shifted(middle)) < total:
            low = middle
        else:
            high = middle
    exact = shifted(low)
    counts = [(x + 1e-9).floor() for x in exact]
    left = total - round(weights_of(counts))
    fractions = torch.cat([x - c for x, c in zip(exact, counts, strict=True)])
    owners = [(i, r) for i, c in enumerate(counts) for r in range(len(c))]
    for place in fractions.argsort(descending=True, stable=True).tolist():
        i, r = owners[place]
        if units[i] <= left and counts[i][r] < levels[i]:
            counts[i][r] += 1
            left -= units[i]
        if left == 0:
            break
    return [c.long() for c in counts]
