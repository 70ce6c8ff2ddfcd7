"""An order of inputs in which runs of N:M keep more of what counts (methods 3.4; Zhang et al., ICLR 2024, section 4).

Neighbours share a run. Where several inputs that matter stand in one, some of them have to go; so channels are dealt
out anew:

    dealt       columns sorted by the sum of their scores, cut into M equal parts; run k gets the k-th of each part,
                every second part backwards
    assigned    for each place of a run in turn: what stands there is taken out of all runs and given back so that the
                scores kept are most, a linear sum assignment (scipy)

A run of M - 1 others keeps c at the cost of its own N-th best t: giving it column c is worth sum_rows max(0, S_c - t).
"""

import numpy as np
import torch

from workloads.patterns import NofM


def better_order(scores: torch.Tensor, pattern: NofM) -> torch.Tensor:
    """(cols,) int64: place i gets column order[i], of scores (rows, cols), cols a multiple of m. The order as it is
    where no better one was found."""
    own = torch.arange(scores.shape[1])
    if pattern.n == pattern.m or len(own) <= pattern.m:
        return own
    scores = scores.double().cpu()
    order = dealt(scores, pattern)
    for place in range(pattern.m):
        order = assigned(scores, order, pattern, place)
    return order if kept_score(scores[:, order], pattern) > kept_score(scores, pattern) else own


def kept_score(scores: torch.Tensor, pattern: NofM) -> float:
    """Sum of the n highest of every run of m."""
    runs = scores.double().reshape(-1, pattern.m)
    return float(runs.topk(pattern.n, dim=1).values.sum())


def dealt(scores: torch.Tensor, pattern: NofM) -> torch.Tensor:
    """(cols,) the order of the first step, of scores (rows, cols) float64."""
    parts = scores.sum(dim=0).argsort(stable=True).reshape(pattern.m, -1)
    parts[1::2] = parts[1::2].flip(1)
    return parts.T.reshape(-1)


def assigned(scores: torch.Tensor, order: torch.Tensor, pattern: NofM, place: int) -> torch.Tensor:
    """(cols,) `order` with what stands at `place` of the runs given back in the best way."""
    runs = order.reshape(-1, pattern.m).clone()  # (runs, m)
    moved = runs[:, place]
    others = runs[:, [other for other in range(pattern.m) if other != place]]
    least = scores[:, others].topk(pattern.n, dim=2).values[..., -1].T  # (runs, rows)
    given = scores[:, moved].T  # (runs, rows)
    # sum max(0, c - t) = (sum |c - t| + sum c - sum t) / 2
    apart = torch.cdist(least.contiguous(), given.contiguous(), p=1)
    worth = (apart + given.sum(dim=1)[None, :] - least.sum(dim=1)[:, None]) / 2
    from scipy.optimize import linear_sum_assignment  # only here: importing it takes a quarter of a second

    _, taken = linear_sum_assignment(worth.numpy(), maximize=True)
    runs[:, place] = moved[torch.from_numpy(np.asarray(taken, dtype=np.int64))]
    return runs.reshape(-1)
