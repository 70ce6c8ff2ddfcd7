"""What masks change of a model's predictions, beside the dense model on the same windows, one block of each in memory.

    kl          mean over predictions of sum_v p_v log(p_v / q_v), p the dense model's probabilities, q the pruned
                one's; nats, 0 = the same
    agreement   share of predictions whose likeliest token is the dense model's
    error of a block   sum (y - y')^2 / sum y^2 of what leaves it in the dense and in the pruned model, over all tokens:
                what the masks of it and of all blocks before it add up to

Logits are turned into float32, sums are float64. Both models run the windows block by block, so this takes twice the
time of a perplexity and two sets of hidden states.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from checkpoints.checkpoint import Checkpoint
from pruning.applied import apply_bundle
from pruning.evaluation.perplexity import (
    GROUP_BYTES,
    LOGIT_ROWS,
    checked_loss,
    grouped,
    predicting,
    told,
    window_loss,
)
from pruning.forward.blockwise import BlockwiseModel
from pruning.forward.hidden_states import Progress, micro_batches
from pruning.parallel import ordered_map
from workloads.bundle import MaskBundle


@dataclass(frozen=True)
class AgainstDense:
    """block_errors: one a block, in order."""

    perplexity: float
    dense_perplexity: float
    kl: float
    agreement: float
    block_errors: tuple[float, ...]


@dataclass
class _Sums:
    squares: list[float]
    apart: list[float]


def against_dense(checkpoint: Checkpoint, ids: torch.Tensor, masks: MaskBundle, progress: Progress) -> AgainstDense:
    """Over windows `ids` (windows, seq_len). Raises as `perplexity`."""
    apply_bundle(checkpoint, masks)
    model = predicting(checkpoint)
    count = len(checkpoint.blocks)
    sums = _Sums([0.0] * count, [0.0] * count)
    found: list[tuple[float, float, float, float]] = []
    groups = grouped(checkpoint, ids, GROUP_BYTES // 2)
    for number, group in enumerate(groups):
        found += _group(model, group, sums, partial(told, progress, number * count, len(groups) * count))
    loss, dense, kl, same = (math.fsum(column) / len(found) for column in zip(*found, strict=True))
    errors = tuple(apart / max(whole, 1e-300) for apart, whole in zip(sums.apart, sums.squares, strict=True))
    return AgainstDense(checked_loss(checkpoint, loss), checked_loss(checkpoint, dense), kl, same, errors)


def _group(
    model: BlockwiseModel, ids: torch.Tensor, sums: _Sums, done: Callable[[int], None]
) -> Iterator[tuple[float, float, float, float]]:
    """(loss, the dense model's, divergence, agreement) of every window."""
    checkpoint, batches = model.checkpoint, micro_batches(ids)
    dense = [model.embed(batch) for batch in batches]
    pruned = list(dense)
    model.embed(ids[:1])  # logits are made of single windows
    for number in range(len(model.blocks)):
        done(number)
        dense, pruned = (model.advance_all(number, batches, states) for states in (dense, pruned))
        with checkpoint.as_stored():
            block = checkpoint.load_block(number)
            dense = list(ordered_map(partial(model.run, number), dense))
            checkpoint.release(block)
        block = checkpoint.load_block(number)
        pruned = list(ordered_map(partial(model.run, number), pruned))
        checkpoint.release(block)
        for y, other in zip(dense, pruned, strict=True):
            sums.squares[number] += float(y.double().square().sum())
            sums.apart[number] += float((y.double() - other.double()).square().sum())
    singles = ([window for batch in states for window in batch.split(1)] for states in (dense, pruned))
    with model.heads():
        yield from ordered_map(partial(_window, model), zip(ids.split(1), *singles, strict=True), large=True)


def _window(model: BlockwiseModel, window: tuple[torch.Tensor, ...]) -> tuple[float, float, float, float]:
    """Of ids (1, seq) and what left the last block of both models (1, seq, hidden)."""
    ids, *states = window
    whole, other = (model.logits(ids, each) for each in states)
    divergence, same = divergence_of(whole[0, :-1], other[0, :-1])
    return window_loss(other, ids), window_loss(whole, ids), divergence, same


def divergence_of(whole: torch.Tensor, other: torch.Tensor) -> tuple[float, float]:
    """(mean Kullback-Leibler divergence, share of equal likeliest tokens) of logits (tokens, vocabulary)."""
    total, same = 0.0, 0
    for rows, others in zip(whole.split(LOGIT_ROWS), other.split(LOGIT_ROWS), strict=True):
        p, q = (each.float().log_softmax(dim=-1) for each in (rows, others))
        total += float((p.exp() * (p - q)).sum(dim=-1).double().sum())
        same += int((rows.argmax(dim=-1) == others.argmax(dim=-1)).sum())
    return total / len(whole), same / len(whole)
