"""What a method is given that decides which units go by the loss of the whole model."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pruning.block_job import Warn
from pruning.data.calibration import in_own_order
from pruning.forward.hidden_states import Progress
from pruning.structured.judge import Judge
from pruning.structured.scores import ScoredBlock

SAVES = 100  # of an unfinished search, evenly

Kept = dict[str, np.ndarray]  # by a group's key (count,) bool


@dataclass(frozen=True)
class UnitProblem:
    """blocks: every group with its scores; start: what the scores alone would keep; ids: of the calibration,
    (sequences, tokens) or a network's samples (samples, ...); model: gives the losses of sets of units on such ids.
    `state` is a file to keep what an unfinished run needs to go on to the same result; the driver deletes it."""

    blocks: list[ScoredBlock]
    start: Kept
    sparsity: float
    multiple_of: int
    seed: int
    ids: torch.Tensor
    model: Judge
    state: Path
    progress: Progress
    warn: Warn

    def unless_worse(self, found: Kept, method: str, steps: int) -> Kept:
        """`found` where its loss on all `ids` is below that of `start`; else `start`, and a warning."""
        before, after = self.model.losses([self.start, found], in_own_order(self.ids))
        if after < before:
            return found
        self.warn(
            f"{method}: after {steps} steps the loss on the calibration set is {after:.4f}, that of Wanda-sp's choice "
            f"{before:.4f}, so the latter stays; set more steps or another lr"
        )
        return self.start


def is_saved(step: int, steps: int) -> bool:
    """Whether a search of so many steps keeps its state after this one."""
    return step % max(1, steps // SAVES) == 0
