"""What one changed matrix does to a whole model: the divergence of its predictions from the dense model's."""

import math
from collections.abc import Iterable, Mapping

import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import LinearRef
from pruning.evaluation.against_dense import divergence_of
from pruning.evaluation.whole_model import whole_model
from pruning.forward.feeding import arguments
from pruning.forward.hidden_states import Progress
from pruning.parallel import one_thread_per_operation

SEQUENCES = 8


@torch.no_grad()
def divergences(
    checkpoint: Checkpoint,
    refs: Iterable[LinearRef],
    weights: Mapping[str, torch.Tensor],
    ids: torch.Tensor,
    progress: Progress,
) -> dict[str, float]:
    """By layer the mean Kullback-Leibler divergence (nats a token) over the first SEQUENCES of ids (sequences, tokens)
    when its weight (out, in) alone is replaced. In memory: the whole model. Raises NotForThisModel for a model that
    predicts no next token."""
    by_name = {ref.layer.name: ref for ref in refs}
    windows = ids[:SEQUENCES].split(1)
    model = whole_model(checkpoint, None)
    found = {}
    with one_thread_per_operation():

        def logits(window: torch.Tensor) -> torch.Tensor:
            return model(**arguments(checkpoint, window)).logits[0, :-1].float()

        dense = [logits(window) for window in windows]
        for number, (name, weight) in enumerate(weights.items()):
            progress("errors in the predictions", number, len(weights))
            ref = by_name[name]
            matrix = ref.matrix(checkpoint.blocks[ref.layer.block])
            kept = matrix.clone()
            matrix.copy_(weight)
            apart = [divergence_of(p, logits(window))[0] for p, window in zip(dense, windows, strict=True)]
            matrix.copy_(kept)
            found[name] = max(0.0, math.fsum(apart) / len(apart))
    checkpoint.release(checkpoint.model)
    return found
