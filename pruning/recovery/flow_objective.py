"""The path of hidden states through a model, and how long and how bent it is: feature flow (methods 14.1).

With x_0 what enters the first block, x_l what block l puts out, and z what enters the outputs of FFNs, the sums over
the tokens that count are

    length      sum_l mean_c |x_l - x_(l-1)|
    curvature   sum_l mean_c |x_(l+1) - 2 x_l + x_(l-1)|
    activation  sum over FFNs of mean_j |z_j|

c over the hidden size, j over neurons. Each is added to the loss with a weight times (the text's loss / itself) of the
dense model on the first batch, so that a weight is the share of the loss that the term starts with. Networks that are
no language models: pruning/recovery/network_flow.py.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch.nn import functional

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import LinearRef
from pruning.parallel import side_by_side, split
from pruning.recovery.objective import Batch
from pruning.recovery.path import PathRecorder
from pruning.recovery.text_objective import IGNORED, TextObjective

TERMS = ("length", "curvature", "activation")


class FlowObjective(TextObjective):
    """The loss of a language model's text and the weighted terms. weights: by TERMS. ffns: the outputs of FFNs."""

    def __init__(self, student: Checkpoint, weights: Sequence[float], ffns: Sequence[LinearRef]):
        super().__init__(student, None, None, 0.0)
        self._weights, self._scale = list(weights), [0.0] * len(TERMS)
        blocks = [block for n, block in enumerate(student.blocks) if n not in student.removal.blocks]
        outputs = [student.blocks[ref.layer.block].get_submodule(ref.module_path) for ref in ffns]
        self._recorder = PathRecorder(blocks, outputs)

    def measure(self, device: torch.device, batch: Batch) -> None:
        """Sets what the weights are relative to, from a batch and the model as it is."""

        def sums(piece: Batch) -> torch.Tensor:
            with torch.no_grad():
                return torch.stack([each.double() for each in self._parts(piece)])

        total = sum(side_by_side(sums, split(device, self.at_once(device, batch), batch), device))
        loss, *terms = total.tolist()  # type: ignore[union-attr]
        self._scale = [w * loss / term if term else 0.0 for w, term in zip(self._weights, terms, strict=True)]

    def __call__(self, piece: Batch) -> torch.Tensor:
        loss, *terms = self._parts(piece)
        return loss + sum(scale * term for scale, term in zip(self._scale, terms, strict=True))

    def close(self) -> None:
        self._recorder.close()

    def _parts(self, piece: Batch) -> list[torch.Tensor]:
        """The text's loss and the terms, sums over the tokens that count."""
        ids, labels = piece
        counted = labels[:, 1:] != IGNORED
        with self._recorder.recording() as path:
            logits = self._student[0](input_ids=ids, use_cache=False).logits
        loss = functional.cross_entropy(logits[:, :-1][counted].float(), labels[:, 1:][counted], reduction="sum")
        states = [state[:, :-1][counted].float() for state in path.states]
        inner = [state.reshape(*ids.shape, -1)[:, :-1][counted].float() for state in path.inner]
        return [loss, *flow(states), added([z.abs().mean(dim=1).sum() for z in inner], loss)]


def flow(states: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """(length, curvature) of a path of states (tokens, hidden), sums over tokens, scalars with their graph; a path of
    two states is not bent."""
    steps = [after - before for before, after in pairwise(states)]
    turns = [after - before for before, after in pairwise(steps)]
    return (
        added([step.abs().mean(dim=1).sum() for step in steps], states[0]),
        added([turn.abs().mean(dim=1).sum() for turn in turns], states[0]),
    )


def added(parts: list[torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    return torch.stack(parts).sum() if parts else like.new_zeros(())
