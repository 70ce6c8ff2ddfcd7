"""What training lowers: the cross-entropy of the text's next tokens, and, on request, the distance to the dense model.

Over the T predicted tokens that count (all of a text, those of completions):

    loss    mean_t -log p_t(next token)                                 p: softmax of the logits, in float32
    logits  + weight * mean_t KL(q_t || p_t)                            q: the dense model's, at temperature 1
    layers  + weight * mean_t mean_b ||h_bt - g_bt||^2 / ||g_bt||^2     h: output of block b, g: the dense model's
                                                                        (of blocks that are left)

Both distances are 0 where the two models agree. Dropout is off in both.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from checkpoints.checkpoint import Checkpoint
from pruning.parallel import sequences_at_once
from pruning.recovery.objective import Batch, Objective

IGNORED = -100  # label of a token that is not predicted


class Recorder:
    """Notes the outputs of a model's blocks, of the forward pass of the thread that asks."""

    def __init__(self, blocks: list[nn.Module]):
        self._own = threading.local()
        self._handles = [block.register_forward_hook(self._note) for block in blocks]

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()

    @contextmanager
    def recording(self) -> Iterator[list[torch.Tensor]]:
        found: list[torch.Tensor] = []
        self._own.found = found
        try:
            yield found
        finally:
            self._own.found = None

    def _note(self, block: nn.Module, args: object, output: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        if getattr(self._own, "found", None) is not None:  # not while activations are computed again
            self._own.found.append(output[0] if isinstance(output, tuple | list) else output)


@dataclass(frozen=True)
class Run:
    """Of one forward pass, at the tokens that count: logits (tokens, vocabulary) float32, and the block outputs, each
    (tokens, hidden) float32, where they were asked for."""

    logits: torch.Tensor
    states: list[torch.Tensor]


class TextObjective(Objective):
    """The loss of a language model in training, beside a dense teacher where `distill` ("logits" or "layers") says so.
    Batches are ids and labels, (sequences, tokens) int64, labels IGNORED where a token is not to be predicted; what
    counts are the tokens that are."""

    def __init__(self, student: Checkpoint, teacher: Checkpoint | None, distill: str | None, weight: float):
        self.distill, self.weight = distill, weight
        left = [n for n in range(len(student.blocks)) if n not in student.removal.blocks]

        def recorder(of: Checkpoint) -> Recorder | None:
            return Recorder([of.blocks[number] for number in left]) if distill == "layers" else None

        self._student = student.model, recorder(student)
        self._teacher = (teacher.model, recorder(teacher)) if teacher else None

    def count(self, batch: Batch) -> int:
        return int((batch[1][:, 1:] != IGNORED).sum())

    def at_once(self, device: torch.device, batch: Batch) -> int:
        return sequences_at_once(device, batch[0].shape[1])

    def own_loss(self, piece: Batch) -> torch.Tensor:
        """Of the text alone."""
        ids, labels = piece
        return self._of_text(run(*self._student, ids, labels), labels)

    def __call__(self, piece: Batch) -> torch.Tensor:
        """The text's loss and the weighted distance."""
        ids, labels = piece
        own = run(*self._student, ids, labels)
        loss = self._of_text(own, labels)
        if self._teacher is None:
            return loss
        with torch.no_grad():
            dense = run(*self._teacher, ids, labels)
        distance = state_distance if self.distill == "layers" else logit_distance
        return loss + self.weight * distance(own, dense)

    def close(self) -> None:
        for side in (self._student, self._teacher):
            if side is not None and side[1] is not None:
                side[1].close()

    def _of_text(self, own: Run, labels: torch.Tensor) -> torch.Tensor:
        wanted = labels[:, 1:]
        return functional.cross_entropy(own.logits, wanted[wanted != IGNORED], reduction="sum")


def run(model: PreTrainedModel, recorder: Recorder | None, ids: torch.Tensor, labels: torch.Tensor) -> Run:
    counted = labels[:, 1:] != IGNORED
    if recorder is None:
        return Run(model(input_ids=ids, use_cache=False).logits[:, :-1][counted].float(), [])
    with recorder.recording() as states:
        logits = model(input_ids=ids, use_cache=False).logits
    return Run(logits[:, :-1][counted].float(), [state[:, :-1][counted].float() for state in states])


def logit_distance(own: Run, dense: Run) -> torch.Tensor:
    """Sum over tokens of KL(dense || own)."""
    predicted, wanted = functional.log_softmax(own.logits, -1), functional.log_softmax(dense.logits, -1)
    return functional.kl_div(predicted, wanted, reduction="sum", log_target=True)


def state_distance(own: Run, dense: Run) -> torch.Tensor:
    """Sum over tokens of the mean over blocks of the squared error relative to the dense model's state."""
    tiny = torch.finfo(torch.float32).tiny
    total = [
        ((h - g).square().sum(1) / g.square().sum(1).clamp_min(tiny)).sum()
        for h, g in zip(own.states, dense.states, strict=True)
    ]
    return torch.stack(total).mean()
