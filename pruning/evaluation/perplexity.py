"""Perplexity by the protocol of the pruning papers (methods 19.2), one block in memory at a time.

Whole windows of seq_len tokens, no overlap, remainder dropped, each window on its own:
    nll_w = mean over its seq_len - 1 predictions (float32 log-softmax);   perplexity = exp(mean_w nll_w)
with sums in float64.
"""

import math
from functools import partial

import torch
from torch import nn

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import LinearRef, find_refs
from checkpoints.families import Kind
from checkpoints.prunable import all_refs, parameter_name, shared_refs
from pruning.bundle_values import read_biases, read_weight
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
    model = BlockwiseModel(checkpoint)
    if masks is not None and masks.is_smaller:
        check_removal(checkpoint, masks)
        checkpoint.take_out(masks.removal, read_biases(masks))
    if not model.causal:
        raise NotForThisModel(
            f"{checkpoint.folder}: tokens of {type(checkpoint.model).__name__} see later tokens, so it predicts none; "
            "it has no perplexity"
        )
    refs = all_refs(checkpoint)
    if masks is not None:
        check_masks(refs, masks)
    hidden_bytes = ids.shape[1] * checkpoint.config.get_text_config().hidden_size * checkpoint.model.dtype.itemsize
    groups = ids.split(max(1, GROUP_BYTES // hidden_bytes))
    losses: list[float] = []
    for number, group in enumerate(groups):
        losses += window_losses(
            model,
            refs,
            group,
            masks,
            lambda b, n=number: progress("evaluating", n * len(refs) + b, len(groups) * len(refs)),
        )
    loss = math.fsum(losses) / len(losses)
    if not math.isfinite(loss):
        raise UserError(
            f"{checkpoint.folder}: the loss is {loss}: its weights or activations overflow; use `dtype=float32` or "
            "repair it"
        )
    return math.exp(min(loss, 700.0))


def check_predicts(checkpoint: Checkpoint) -> None:
    """Raises NotForThisModel for a model that predicts no next token."""
    if checkpoint.family.kind is not Kind.CAUSAL:
        raise NotForThisModel(
            f"{checkpoint.folder}: {type(checkpoint.model).__name__} is an {checkpoint.family.kind}, it has no "
            "perplexity (only causal language models predict every next token); its masks can be made and simulated"
        )


def window_losses(
    model: BlockwiseModel, refs: list[list[LinearRef]], ids: torch.Tensor, masks: MaskBundle | None, progress
) -> list[float]:
    """Mean NLL of every window."""
    batches = micro_batches(ids)
    hidden = [model.embed(batch) for batch in batches]
    model.embed(ids[:1])  # logits are made of single windows
    for number in range(len(model.blocks)):
        progress(number)
        hidden = model.advance_all(number, batches, hidden)
        block = model.checkpoint.load_block(number)
        if masks is not None:
            apply_masks(model.checkpoint, block, [*refs[number], *shared_refs(model.checkpoint, number)], masks)
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


def check_masks(refs: list[list[LinearRef]], masks: MaskBundle) -> None:
    known = {ref.layer.name: ref.layer.shape for block in refs for ref in block}
    for entry in masks.layers:
        if entry.name not in known:
            raise UserError(
                f"{masks.folder}: its layer {entry.name} is not in this model; were the masks made for another?"
            )
        if known[entry.name] != entry.layer.shape:
            if known[entry.name] == entry.unpruned.shape:
                raise UserError(
                    f"{masks.folder} took rows or columns out of {entry.name}, so its masks are not of the whole "
                    "model's sizes; `eval` with a text and `simulate` read it"
                )
            raise UserError(
                f"{masks.folder}: {entry.name}: the mask has shape {entry.layer.shape}, the weights "
                f"{known[entry.name]}; were the masks made for another model?"
            )


def check_removal(checkpoint: Checkpoint, masks: MaskBundle) -> None:
    """Raises UserError unless what the bundle takes out is of this model."""
    known = {ref.layer.name: ref.layer.shape for block in find_refs(checkpoint.model) for ref in block}
    for entry in masks.entries:
        if known.get(entry.name) != entry.unpruned.shape:
            raise UserError(
                f"{masks.folder}: {entry.name} had shape {entry.unpruned.shape} before pruning, this model has "
                f"{known.get(entry.name, 'no such layer')}; was it made for another model?"
            )


def apply_masks(checkpoint: Checkpoint, block: nn.Module, refs: list[LinearRef], masks: MaskBundle) -> None:
    """Makes a loaded block what the bundle says: its own weights under the masks, or the weights the bundle holds,
    rounded as a checkpoint stores them. Layers the bundle does not hold stay dense."""
    for ref in refs:
        if ref.layer.name in masks:
            matrix = ref.matrix(block)
            weight = read_weight(masks, ref.layer.name)
            if weight is not None:
                matrix.copy_(weight.to(checkpoint.stored_dtype(parameter_name(ref))))
            keep = torch.from_numpy(masks[ref.layer.name].to_dense())
            matrix.masked_fill_(~keep.to(matrix.device), 0)
