"""What goes of a model, or of what a bundle left of it, found by trying it out: round after round every candidate is
left out of what the rounds before left, and the one goes without which the loss of the calibration text is least
(methods 7.9).

The hidden states that enter every block are on disk, so a candidate runs its own block and those behind it, half a
forward pass on average; the deepest is tried first. One block and the hidden states of the calibration set are in
memory. After every candidate its loss is on disk, so a killed run continues there, after one forward pass, to identical
bytes.
"""

import math
from functools import partial
from pathlib import Path

import torch

from pruning.evaluation.perplexity import losses_of
from pruning.forward.blockwise import BlockwiseModel
from pruning.forward.hidden_states import (
    hidden_file,
    micro_batches,
    read_hidden,
    read_tensors,
    write_hidden,
    write_tensors,
)
from pruning.methods.structured.method import StructuredMethod
from pruning.parallel import ordered_map
from pruning.run.context import Run
from pruning.structured.sublayers import BLOCK, Part, Sublayers, blocks_of, removal_without
from workloads.errors import NotForThisModel, UserError
from workloads.removal import Removal


class Elimination:
    """Of one run, of a model that has a loss."""

    def __init__(self, run: Run, method: StructuredMethod, model: BlockwiseModel, hidden: torch.Tensor):
        """`hidden` (batch, seq, hidden): states that blocks are tried out with. Raises NotForThisModel as Sublayers,
        and for a model that has nothing of what is tried."""
        assert run.recipe.calibration is not None
        self.run, self.model, self.checkpoint, self.folder = run, model, run.checkpoint, run.writer.folder
        self.ids = run.recipe.calibration.ids
        whole = method.tries == {BLOCK}
        known = Sublayers(model, hidden)
        self.parts = blocks_of(model, run.refs) if whole else [
            part for number, refs in enumerate(run.refs) for part in known.of(number, refs)
        ]  # fmt: skip
        self.costs = {part: 1 if whole else part.weights for part in self.parts if part.kind in method.tries}
        if not self.costs:
            raise NotForThisModel(f"{run.checkpoint.folder}: its blocks have no {' or '.join(sorted(method.tries))}")
        target = run.recipe.sparsity * sum(self.costs.values())
        self.target = round(target) if whole else target
        self.entering = -1  # up to this block what enters it is on disk and true

    def find(self) -> Removal:
        """Leaves the checkpoint as it was, and its rest (embeddings, head) loaded."""
        gone: list[Part] = []
        while candidates := self._candidates(gone):
            losses = self._losses(candidates, gone)
            best = min(range(len(candidates)), key=losses.__getitem__)
            if not math.isfinite(losses[best]):
                raise UserError(
                    f"{self.checkpoint.folder}: whatever is left out, the loss is {losses[best]}: weights or "
                    "activations overflow; use `dtype=float32` or repair it"
                )
            gone.append(candidates[best])
            self.entering = min(self.entering, gone[-1].block)
        return removal_without(self.parts, gone)

    def _candidates(self, gone: list[Part]) -> list[Part]:
        """Those that bring what is taken out nearer to the target, the deepest first; the last part of a model is
        none."""
        if len(gone) + 1 == len(self.parts):
            return []
        taken = sum(self.costs[part] for part in gone)
        near = abs(taken - self.target)
        left = [part for part in self.costs if part not in gone]
        return [part for part in reversed(left) if abs(taken + self.costs[part] - self.target) < near]

    def _losses(self, candidates: list[Part], gone: list[Part]) -> list[float]:
        """Mean next-token losses without each candidate; infinite where it is not a number."""
        file = rounds_file(self.folder, len(gone))
        losses = read_tensors(file)["losses"].tolist() if file.exists() else []
        if len(losses) < len(candidates):
            self._prepare(gone, candidates[0].block)
        for done in range(len(losses), len(candidates)):
            self.run.progress(f"round {len(gone) + 1}: trying", done, len(candidates))
            loss = self._loss(candidates[done], gone)
            losses.append(loss if math.isfinite(loss) else math.inf)
            write_tensors(file, {"losses": torch.tensor(losses, dtype=torch.float64)})
        return losses

    def _loss(self, part: Part, gone: list[Part]) -> float:
        hidden = read_hidden(self.folder, part.block, ["inputs"])["inputs"]
        with self.checkpoint.without(removal_without(self.parts, [*gone, part])):
            for number in range(part.block, len(self.model.blocks)):
                hidden = self._through(number, hidden)
        losses = losses_of(self.model, self.ids, hidden)
        return math.fsum(losses) / len(losses)

    def _prepare(self, gone: list[Part], last: int) -> None:
        """Puts on disk what enters the blocks up to `last` without what is gone."""
        if self.entering < 0:  # nothing is left out yet
            hidden = [self.model.embed(batch) for batch in micro_batches(self.ids)]
            self.model.embed(self.ids[:1])  # logits are made of single sequences
            write_hidden(self.folder, 0, {"inputs": hidden})
            self.entering = 0
        elif self.entering < last:
            hidden = read_hidden(self.folder, self.entering, ["inputs"])["inputs"]
        with self.checkpoint.without(removal_without(self.parts, gone)):
            for number in range(self.entering, last):
                hidden = self._through(number, hidden)
                write_hidden(self.folder, number + 1, {"inputs": hidden})
                self.entering = number + 1

    def _through(self, number: int, hidden: list[torch.Tensor]) -> list[torch.Tensor]:
        """What comes out of a block for batches (batch, seq, hidden); of one that is gone what enters it."""
        if number in self.checkpoint.removal.blocks:
            return hidden
        block = self.checkpoint.load_block(number)
        hidden = list(ordered_map(partial(self.model.run, number), hidden))
        self.checkpoint.release(block)
        return hidden


def rounds_file(folder: Path, number: int) -> Path:
    """The losses of a round, as far as its candidates were tried."""
    return folder / f"rounds-{number:05d}.safetensors"


def drop_rounds(folder: Path, blocks: int) -> None:
    """Deletes what it left on disk."""
    for number in range(blocks):
        hidden_file(folder, number).unlink(missing_ok=True)
    for file in folder.glob("rounds-*.safetensors"):
        file.unlink()
