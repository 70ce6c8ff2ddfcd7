"""How good a pruned model is that predicts no next token (an encoder, an encoder-decoder): the share of its outputs
whose largest entry is the unpruned model's, on the same inputs. It needs no labels and no head of a task; 1 is the
unpruned model itself.

Both models run block by block, so one block of each is in memory.
"""

from functools import partial
from typing import Any

import torch

from checkpoints.checkpoint import Checkpoint
from pruning.applied import apply_bundle
from pruning.forward.blockwise import BlockwiseModel
from pruning.forward.hidden_states import Progress, micro_batches
from pruning.parallel import ordered_map
from workloads.bundle import MaskBundle

METRIC = "agreement with the unpruned model (share)"


@torch.no_grad()
def agreement(checkpoint: Checkpoint, data: Any, masks: MaskBundle | None, progress: Progress) -> tuple[float, int]:
    """(share, outputs compared): of `data`, token ids (samples, seq) or inputs by name. Raises UserError for masks of
    another model, and a model that cannot be run block by block."""
    if masks is not None:
        apply_bundle(checkpoint, masks)
    model, batches = BlockwiseModel(checkpoint), micro_batches(data)
    whole = [model.embed(batch) for batch in batches]
    pruned = list(whole)
    for number in range(len(model.blocks)):
        progress("evaluating", number, len(model.blocks))
        whole, pruned = (model.advance_all(number, batches, states) for states in (whole, pruned))
        with checkpoint.as_stored():
            whole = _through(model, number, whole)
        pruned = _through(model, number, pruned)
    same = count = 0
    with model.heads():
        for batch, *states in zip(batches, whole, pruned, strict=True):
            one, other = (model.logits(batch, each).argmax(dim=-1) for each in states)
            same, count = same + int((one == other).sum()), count + one.numel()
    return same / count, count


def _through(model: BlockwiseModel, number: int, states: list[torch.Tensor]) -> list[torch.Tensor]:
    block = model.checkpoint.load_block(number)
    made = list(ordered_map(partial(model.run, number), states))
    model.checkpoint.release(block)
    return made
