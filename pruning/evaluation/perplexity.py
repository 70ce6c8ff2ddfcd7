"""Perplexity by the protocol of the pruning papers (methods 19.2), one block in memory at a time.

Whole windows of seq_len tokens, no overlap, remainder dropped, each window on its own:
    nll_w = mean over its seq_len - 1 predictions (float32 log-softmax);   perplexity = exp(mean_w nll_w)
with sums in float64.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from checkpoints.checkpoint import Checkpoint
from checkpoints.families import Kind
from pruning.applied import apply_bundle
from pruning.forward.blockwise import BlockwiseModel
from pruning.forward.hidden_states import Progress, micro_batches
from pruning.parallel import ordered_map
from workloads.bundle import MaskBundle
from workloads.errors import NotForThisModel, UserError

GROUP_BYTES = 1 << 30  # hidden states held at once
LOGIT_ROWS = 512  # tokens whose logits are turned into float32 at once


def perplexity(checkpoint: Checkpoint, ids: torch.Tensor, masks: MaskBundle | None, progress: Progress) -> float:
    """Perplexity over windows `ids` (windows, seq_len), with `masks` applied to the weights if given.

    Raises NotForThisModel if it has none, UserError if the masks are not of this model or the loss is not finite.
    """
    check_predicts(checkpoint)
    if masks is not None:
        apply_bundle(checkpoint, masks)
    model = predicting(checkpoint)
    blocks, groups = len(checkpoint.blocks), grouped(checkpoint, ids, GROUP_BYTES)
    losses: list[float] = []
    for number, group in enumerate(groups):
        done = partial(told, progress, number * blocks, len(groups) * blocks)
        losses += window_losses(model, group, done)
    return checked_loss(checkpoint, math.fsum(losses) / len(losses))


def predicting(checkpoint: Checkpoint) -> BlockwiseModel:
    """The model block by block. Raises NotForThisModel for one that predicts no next token."""
    check_predicts(checkpoint)
    model = BlockwiseModel(checkpoint)
    if not model.causal:
        raise NotForThisModel(
            f"{checkpoint.folder}: tokens of {type(checkpoint.model).__name__} see later tokens, so it predicts none; "
            "it has no perplexity"
        )
    return model


def grouped(checkpoint: Checkpoint, ids: torch.Tensor, most_bytes: int) -> tuple[torch.Tensor, ...]:
    """Windows (windows, seq_len) in groups whose hidden states take at most so many bytes."""
    hidden_bytes = ids.shape[1] * checkpoint.config.get_text_config().hidden_size * checkpoint.model.dtype.itemsize
    return ids.split(max(1, most_bytes // hidden_bytes))


def checked_loss(checkpoint: Checkpoint, loss: float) -> float:
    """The perplexity of a mean loss. Raises UserError unless it is finite."""
    if not math.isfinite(loss):
        raise UserError(
            f"{checkpoint.folder}: the loss is {loss}: its weights or activations overflow; use `dtype=float32` or "
            "repair it"
        )
    return math.exp(min(loss, 700.0))


def told(progress: Progress, before: int, count: int, block: int) -> None:
    progress("evaluating", before + block, count)


def check_predicts(checkpoint: Checkpoint) -> None:
    """Raises NotForThisModel for a model that predicts no next token."""
    if checkpoint.family.kind is not Kind.CAUSAL:
        raise NotForThisModel(
            f"{checkpoint.folder}: {type(checkpoint.model).__name__} is an {checkpoint.family.kind}, it has no "
            "perplexity (only causal language models predict every next token); its masks can be made and simulated"
        )


def window_losses(model: BlockwiseModel, ids: torch.Tensor, progress: Callable[[int], None]) -> list[float]:
    """Mean NLL of every window."""
    batches = micro_batches(ids)
    hidden = [model.embed(batch) for batch in batches]
    model.embed(ids[:1])  # logits are made of single windows
    for number in range(len(model.blocks)):
        progress(number)
        hidden = model.advance_all(number, batches, hidden)
        block = model.checkpoint.load_block(number)
        hidden = list(ordered_map(partial(model.run, number), hidden))
        model.checkpoint.release(block)
    return losses_of(model, ids, hidden)


def losses_of(model: BlockwiseModel, ids: torch.Tensor, hidden: list[torch.Tensor]) -> list[float]:
    """Mean NLL of every window of `ids` (windows, seq), whose batches left the last block as `hidden`."""
    windows = (window for batch in hidden for window in batch.split(1))  # logits of one window a thread in memory
    with model.heads():
        return list(
            ordered_map(lambda pair: window_loss(model.logits(*pair), pair[0]), zip(ids.split(1), windows, strict=True))
        )


def window_loss(logits: torch.Tensor, ids: torch.Tensor) -> float:
    """Mean NLL of one window: logits (1, seq, vocabulary), ids (1, seq)."""
    total = 0.0
    for rows, wanted in zip(logits[0, :-1].split(LOGIT_ROWS), ids[0, 1:].split(LOGIT_ROWS), strict=True):
        total += float(nn.functional.cross_entropy(rows.float(), wanted, reduction="none").double().sum())
    return total / (ids.shape[1] - 1)
