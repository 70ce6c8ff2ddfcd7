"""A whole model put together of what single matrices were pruned to, on the dense model: SPDY's database, from which
plans are tried out without pruning again (Frantar and Alistarh, ICML 2022).

In memory: the model, its weights beside it, and of every matrix and choice a bit a weight, or its weights where the
method or bits change them."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import LinearRef
from checkpoints.prunable import all_refs
from pruning.block_job import Decision, Warn
from pruning.evaluation.against_dense import divergence_of
from pruning.evaluation.whole_model import whole_model
from pruning.forward.feeding import arguments
from pruning.forward.hidden_states import Progress
from pruning.parallel import one_thread_per_operation
from pruning.run.error_table import left, run_choices
from pruning.run.recipe import Recipe
from workloads.choices import UNTOUCHED, Choice
from workloads.errors import UserError

LARGEST_BYTES = 8e9  # of the database
Kept = np.ndarray | torch.Tensor  # bits of a mask, or a weight


class Database:
    """Of every matrix what it becomes under every choice."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int], Kept] = {}

    def add(self, name: str, place: int, decision: Decision, dtype: torch.dtype) -> None:
        weight = decision.stored(dtype)
        self._kept[name, place] = np.packbits(decision.keep.cpu().numpy()) if weight is None else weight.cpu()

    def weight(self, name: str, place: int, dense: torch.Tensor) -> torch.Tensor:
        """(out, in), from the `dense` one; that itself where nothing is known of the choice."""
        kept = self._kept.get((name, place))
        if kept is None:
            return dense
        if isinstance(kept, torch.Tensor):
            return kept
        keep = np.unpackbits(kept, count=dense.numel()).astype(bool).reshape(tuple(dense.shape))
        return dense.masked_fill(~torch.from_numpy(keep).to(dense.device), 0)


def database(
    opened: Callable[[], Checkpoint], recipe: Recipe, choices: Sequence[Choice], folder: Path, progress: Progress,
    warn: Warn,
) -> Database:  # fmt: skip
    """As error_table, whose errors are of these very weights. Raises UserError for one of more than LARGEST_BYTES."""
    checkpoint = left(opened(), recipe)
    weights = sum(ref.layer.n_weights for block in all_refs(checkpoint) for ref in block)
    size = checkpoint.model.dtype.itemsize
    whole = sum(recipe.method.changes_weights or choice.bits is not None for choice in choices if choice != UNTOUCHED)
    needed = weights * (whole * size + (len(choices) - whole) / 8)
    if needed > LARGEST_BYTES:
        raise UserError(
            f"{len(choices)} choices of {weights:,} weights are {needed / 1e9:.1f} GB to try plans from, at most "
            f"{LARGEST_BYTES / 1e9:g} are held"
        )
    made = Database()

    def seen(name: str, place: int, decision: Decision) -> None:
        if choices[place] != UNTOUCHED:
            made.add(name, place, decision, checkpoint.model.dtype)

    run_choices(checkpoint, recipe, choices, folder, progress, warn, seen)
    return made


class Stitched:
    """`loss(places)`: the divergence of the predictions on `ids` (sequences, seq_len) once every matrix that is named
    has the choice of that place; nats a token."""

    def __init__(self, checkpoint: Checkpoint, found: Database, ids: torch.Tensor):
        """Raises NotForThisModel for a model that predicts no next token."""
        self._checkpoint, self._found, self._windows = checkpoint, found, ids.split(1)
        self._model = whole_model(checkpoint, None)
        self._refs: dict[str, LinearRef] = {ref.layer.name: ref for block in all_refs(checkpoint) for ref in block}
        self._weights = {name: self._matrix(name).clone() for name in self._refs}
        with torch.no_grad(), one_thread_per_operation():
            self._dense = [self._logits(window) for window in self._windows]

    @torch.no_grad()
    def put(self, places: Mapping[str, int]) -> None:
        """Every matrix that is named has the choice of that place from now on."""
        for name, place in places.items():
            self._matrix(name).copy_(self._found.weight(name, place, self._weights[name]))

    @torch.no_grad()
    def loss(self, places: Mapping[str, int]) -> float:
        self.put(places)
        with one_thread_per_operation():
            apart = [
                divergence_of(dense, self._logits(window))[0]
                for dense, window in zip(self._dense, self._windows, strict=True)
            ]
        return max(0.0, math.fsum(apart) / len(apart))

    def _matrix(self, name: str) -> torch.Tensor:
        ref = self._refs[name]
        return ref.matrix(self._checkpoint.blocks[ref.layer.block])

    def _logits(self, window: torch.Tensor) -> torch.Tensor:
        return self._model(**arguments(self._checkpoint, window)).logits[0, :-1].float()
