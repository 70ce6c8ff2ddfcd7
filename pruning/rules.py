"""Which weights go: exact counts under the row, layer, global and N:M rules. One place, used by every method.

Low scores go first; ties prune the lower index first. Scores are float32 and must be finite.
"""

import math
from collections.abc import Callable, Iterator

import torch

from workloads.errors import UserError
from workloads.patterns import NofM

RULES = ("row", "layer", "global")


def pruned_count(n: int, sparsity: float) -> int:
    """floor(n * sparsity), safe against 0.29 * 100 = 28.999..."""
    return math.floor(n * sparsity + 1e-6)


def keep_by_row(scores: torch.Tensor, sparsity: float) -> torch.Tensor:
    """Boolean (rows, cols): floor(rows * cols * sparsity) pruned, the lowest of every row, of each as many; where that
    does not come out even, one more in the rows whose next score is lowest, ties to the lower row."""
    rows, cols = scores.shape
    each, more = divmod(pruned_count(rows * cols, sparsity), rows)
    lowest = lowest_of_rows(scores, each)
    if more:
        following = scores.kthvalue(each + 1, dim=1).values
        chosen = following.argsort(stable=True)[:more]
        lowest[chosen] = lowest_of_rows(scores[chosen], each + 1)
    return ~lowest


def keep_by_floored_row(scores: torch.Tensor, sparsity: float) -> torch.Tensor:
    """Boolean (rows, cols): floor(cols * sparsity) lowest of every row pruned, as the released programs do."""
    return ~lowest_of_rows(scores, pruned_count(scores.shape[1], sparsity))


def keep_by_layer(scores: torch.Tensor, sparsity: float) -> torch.Tensor:
    """Boolean (rows, cols): floor(rows * cols * sparsity) lowest of the matrix pruned."""
    return ~lowest_of_rows(scores.reshape(1, -1), pruned_count(scores.numel(), sparsity)).reshape(scores.shape)


def keep_up_to_threshold(scores: torch.Tensor, sparsity: float) -> torch.Tensor:
    """Boolean (rows, cols): floor(rows * cols * sparsity) + 1 lowest of the matrix pruned, as the released programs do,
    which take every score up to that of this place."""
    count = min(pruned_count(scores.numel(), sparsity) + 1, scores.numel())
    return ~lowest_of_rows(scores.reshape(1, -1), count).reshape(scores.shape)


def keep_by_pattern(scores: torch.Tensor, pattern: NofM) -> torch.Tensor:
    """Boolean (rows, cols): the n highest of every run of m inputs kept; cols must be a multiple of m."""
    runs = scores.reshape(-1, pattern.m)
    order = runs.argsort(dim=1, stable=True)
    keep = torch.zeros(runs.shape, dtype=torch.bool, device=scores.device)
    keep.scatter_(1, order[:, pattern.m - pattern.n :], True)
    return keep.reshape(scores.shape)


def lowest_of_rows(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Boolean (rows, cols): the `count` lowest of every row, ties to the lower index."""
    cols = scores.shape[1]
    if count <= 0 or count >= cols:
        return torch.full(scores.shape, count >= cols and count > 0, dtype=torch.bool, device=scores.device)
    threshold = scores.kthvalue(count, dim=1, keepdim=True).values
    lowest = scores < threshold
    missing = count - lowest.sum(dim=1, keepdim=True)
    ties = scores == threshold
    uneven = (ties.sum(dim=1, keepdim=True) != missing).squeeze(1)
    if bool(uneven.any()):
        ties[uneven] &= ties[uneven].cumsum(dim=1) <= missing[uneven]
    return lowest | ties


def global_keeper(
    all_scores: Callable[[], Iterator[torch.Tensor]], sparsity: float
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function that turns the scores of one matrix after the other, in the order of `all_scores`, into keep masks
    such that floor(total * sparsity) of all weights are pruned, exactly.

    Non-negative float32 numbers sort like their bit patterns, so two histograms of 65,536 bins over two passes give the
    exact threshold without holding or sorting all scores. Raises UserError for negative scores.
    """
    high = torch.zeros(1 << 16, dtype=torch.int64)
    for scores in all_scores():
        high += torch.bincount(_patterns(scores) >> 16, minlength=1 << 16)
    count = pruned_count(int(high.sum()), sparsity)
    if count == 0:
        return lambda scores: torch.ones(scores.shape, dtype=torch.bool)
    top = int(torch.searchsorted(high.cumsum(0), count))
    below = int(high[:top].sum())
    low = torch.zeros(1 << 16, dtype=torch.int64)
    for scores in all_scores():
        patterns = _patterns(scores)
        low += torch.bincount(patterns[patterns >> 16 == top] & 0xFFFF, minlength=1 << 16)
    bottom = int(torch.searchsorted(low.cumsum(0), count - below))
    threshold = top << 16 | bottom
    ties_left = count - below - int(low[:bottom].sum())

    def keep(scores: torch.Tensor) -> torch.Tensor:
        nonlocal ties_left
        patterns = _patterns(scores)
        pruned = patterns < threshold
        ties = torch.nonzero(patterns == threshold).squeeze(1)[:ties_left]
        pruned[ties] = True
        ties_left -= len(ties)
        return ~pruned.reshape(scores.shape)

    return keep


def _patterns(scores: torch.Tensor) -> torch.Tensor:
    """Bit patterns of non-negative float32 scores as int64, flat."""
    patterns = (scores.float() + 0.0).reshape(-1).cpu().view(torch.int32).long()
    if int(patterns.min()) < 0:
        raise UserError("the global rule needs scores that are not negative")
    return patterns
