"""The loss of a whole model in which some units are silent: what methods that judge sets of units by the model itself
go by.

A unit is silent where its columns of o or down are zero. To the bit that is a product of its features with 0, and the
smaller model's output (methods 7.6); being a matter of weights alone it holds for fused matrices, for experts in a
stack, and for blocks that never call a module. In memory: the whole model, and o and down of the given groups once
more.
"""

import math
from collections.abc import Iterable, Mapping
from types import TracebackType

import numpy as np
import torch

from checkpoints.checkpoint import Checkpoint
from pruning.evaluation.perplexity import check_predicts, window_loss
from pruning.evaluation.whole_model import whole_model
from pruning.forward.blockwise import BlockwiseModel
from pruning.forward.feeding import arguments
from pruning.parallel import over_pieces
from pruning.structured.units import UnitGroup
from workloads.errors import NotForThisModel


def check_has_loss(model: BlockwiseModel) -> None:
    """Raises NotForThisModel for a model that predicts no next token."""
    check_predicts(model.checkpoint)
    if not model.causal:
        raise NotForThisModel(
            f"{model.checkpoint.folder}: its tokens see later tokens, so it has no loss to judge units by; use a "
            "method that scores them, for example wanda-sp"
        )


class MaskedModel:
    """A context: within it the model is in memory, after it nothing of its weights."""

    def __init__(self, checkpoint: Checkpoint, groups: Iterable[UnitGroup]):
        self._checkpoint = checkpoint
        self._groups = {group.key: group for group in groups}
        self._own: dict[str, torch.Tensor] = {}  # (out, in) of a group's output, by its key
        self._silent: dict[str, np.ndarray] = {}  # by key (count,) bool, what is zero now

    def __enter__(self) -> "MaskedModel":
        whole_model(self._checkpoint, None)
        for key, group in self._groups.items():
            self._own[key] = self._matrix(group).clone()
            self._silent[key] = np.zeros(group.count, dtype=bool)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._own.clear()
        self._checkpoint.release(self._checkpoint.model)

    @torch.no_grad()
    def loss(self, kept: Mapping[str, np.ndarray], ids: torch.Tensor) -> float:
        """Mean over the predicted tokens of ids (sequences, tokens) of -log p(token), when of every group in `kept`, by
        its key (count,) bool, the other units are silent; of groups it does not name none is. The same bits whatever
        the number of threads; NaN or Inf where activations overflow."""
        for key in self._groups:
            self._silence(key, ~kept[key] if key in kept else np.zeros_like(self._silent[key]))
        checkpoint = self._checkpoint

        def losses(piece: torch.Tensor) -> list[float]:
            logits = checkpoint.model(**arguments(checkpoint, piece)).logits
            return [window_loss(*pair) for pair in zip(logits.split(1), piece.split(1), strict=True)]

        found = [loss for piece in over_pieces(losses, checkpoint.device, ids) for loss in piece]
        return math.fsum(found) / len(found)

    def _silence(self, key: str, silent: np.ndarray) -> None:
        """Writes only what is not so already."""
        if np.array_equal(silent, self._silent[key]):
            return
        group, own = self._groups[key], self._own[key]
        stays = torch.from_numpy(~silent[group.columns]).to(own)
        torch.mul(own, stays, out=self._matrix(group))
        self._silent[key] = silent.copy()

    def _matrix(self, group: UnitGroup) -> torch.Tensor:
        return group.output.matrix(self._checkpoint.blocks[group.block])
