"""How a model answers questions (pruning/data/questions.py), one block of it in memory at a time."""

import math
from functools import partial

import torch

from checkpoints.checkpoint import Checkpoint
from pruning.applied import apply_bundle
from pruning.data.questions import Questions
from pruning.evaluation.perplexity import LOGIT_ROWS, predicting
from pruning.forward.blockwise import BlockwiseModel
from pruning.forward.hidden_states import Progress, micro_batches
from pruning.parallel import ordered_map
from workloads.bundle import MaskBundle
from workloads.errors import UserError


def right_answers(
    checkpoint: Checkpoint, questions: Questions, masks: MaskBundle | None, progress: Progress
) -> list[bool]:
    """Of every question. With choices: whether the first is likelier than each other, by the sum of log-probabilities
    of its tokens; without: whether each token is the likeliest. Raises as `perplexity`."""
    if masks is not None:
        apply_bundle(checkpoint, masks)
    model = predicting(checkpoint)
    batches = micro_batches(questions.ids)
    hidden = [model.embed(batch) for batch in batches]
    model.embed(questions.ids[:1])
    for number in range(len(model.blocks)):
        progress("answering", number, len(model.blocks))
        hidden = model.advance_all(number, batches, hidden)
        block = checkpoint.load_block(number)
        hidden = list(ordered_map(partial(model.run, number), hidden))
        checkpoint.release(block)
    singles = (window for batch in hidden for window in batch.split(1))
    with model.heads():
        scored = list(
            ordered_map(
                partial(_score, model), zip(questions.ids.split(1), singles, questions.answers, strict=True), large=True
            )
        )
    if not all(math.isfinite(likelihood) for likelihood, _ in scored):
        raise UserError(f"{checkpoint.folder}: an answer's loss is not finite; use `dtype=float32` or repair it")
    if questions.choices == 1:
        return [likeliest for _, likeliest in scored]
    each = [scored[at : at + questions.choices] for at in range(0, len(scored), questions.choices)]
    return [all(own[0] > other[0] for other in others) for own, *others in each]


def _score(model: BlockwiseModel, asked: tuple[torch.Tensor, torch.Tensor, tuple[int, int]]) -> tuple[float, bool]:
    """(log-likelihood of the answer, whether all its tokens are the likeliest) of ids (1, seq)."""
    ids, state, (start, end) = asked
    logits = model.logits(ids, state)[0, start - 1 : end - 1]
    total, likeliest = 0.0, True
    for rows, wanted in zip(logits.split(LOGIT_ROWS), ids[0, start:end].split(LOGIT_ROWS), strict=True):
        chances = rows.float().log_softmax(dim=-1)
        total += float(chances.gather(1, wanted[:, None]).double().sum())
        likeliest &= bool((chances.argmax(dim=-1) == wanted).all())
    return total, likeliest
