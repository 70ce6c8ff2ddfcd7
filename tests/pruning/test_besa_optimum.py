"""How far BESA is from the best budgets, where these can be known: a block that is one linear, whose output error is a
sum over rows, so that dynamic programming finds the exact optimum."""

import numpy as np
import torch
from torch import nn

from checkpoints.discovery import LinearRef
from pruning.block_job import BlockJob
from pruning.evidence.moments import InputMoments, InputWatch, Sums, merge
from pruning.methods.besa.besa import Besa
from pruning.methods.besa.ranks import keep_above, ranks_of
from pruning.training import output_error
from workloads.layers import Layer

ROWS, COLS, TOKENS, SEQUENCES = 24, 40, 48, 16
NEAR = 0.1  # of the distance between even budgets and the best, to the best


def one_linear() -> tuple[BlockJob, LinearRef]:
    draw = torch.Generator().manual_seed(5)
    block = nn.Sequential(nn.Linear(COLS, ROWS, bias=False)).requires_grad_(False)
    scale = torch.randn(ROWS, 1, generator=draw).exp()  # rows of different weight in the sum
    tails = torch.rand(ROWS, 1, generator=draw) * 2 + 0.5  # and of different shape
    noise = torch.randn(ROWS, COLS, generator=draw)
    block[0].weight.copy_(scale * noise.sign() * noise.abs() ** tails)
    ref = LinearRef(Layer("0", "o", 0, ROWS, COLS), "0", "weight", None, False)
    inputs = [torch.randn(4, TOKENS, COLS, generator=draw) for _ in range(SEQUENCES // 4)]
    sums: Sums = {}
    with InputWatch(block, [ref]) as watch:
        for x in inputs:
            merge(sums, watch.observe(lambda x=x: block(x))[1])
    job = BlockJob(
        0, block, [ref], block, {"0": 0.5}, {"0": None}, lambda ref, scores: scores > 0, lambda text: None,
        lambda ref: None, SEQUENCES, InputMoments(SEQUENCES, sums), inputs, [block(x) for x in inputs],
    )  # fmt: skip
    return job, ref


def best_counts(costs: np.ndarray, total: int) -> np.ndarray:
    """(rows,) counts summing to `total` of the least sum of costs[row, count], by going through all of them."""
    least = np.full(total + 1, np.inf)
    least[0] = 0
    taken = []
    for row in costs:
        ways = np.full((len(row), total + 1), np.inf)
        for count, cost in enumerate(row[: total + 1]):
            ways[count, count:] = least[: total + 1 - count] + cost
        taken.append(ways.argmin(axis=0))
        least = ways.min(axis=0)
    counts, left = [], total
    for choice in reversed(taken):
        counts.append(int(choice[left]))
        left -= counts[-1]
    return np.array(counts[::-1])


def test_budgets_are_near_the_best_there_are() -> None:
    job, ref = one_linear()
    weight, settings = job.weight(ref), Besa()
    assert job.moments is not None
    norm = job.moments.feature_norm("0")
    assert norm is not None
    ranks = ranks_of(weight.abs() * norm, COLS)
    inputs, wanted = torch.cat(job.inputs), torch.cat(job.outputs)

    def error(keep: torch.Tensor) -> float:
        return float(output_error(inputs @ (weight * keep).T, wanted, settings.measure))

    whole = torch.ones_like(weight, dtype=torch.bool)
    costs = np.zeros((ROWS, COLS + 1))
    for row in range(ROWS):
        for count in range(COLS + 1):
            keep = whole.clone()
            keep[row] = ranks[row] >= count
            costs[row, count] = error(keep)
    best = error(keep_above(ranks, torch.from_numpy(best_counts(costs, ROWS * COLS // 2))))
    even = error(keep_above(ranks, torch.full((ROWS,), COLS // 2)))
    assert even > 1.1 * best  # there is something to be found
    found = error(settings.decide(job)["0"].keep)
    assert (found - best) / (even - best) < NEAR
