"""What structured pruning must take out, and what must be left."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import find_refs
from pruning.bundle_values import read_biases
from pruning.forward.blockwise import BlockwiseModel
from pruning.run.driver import prune
from validation.conformance.laws import Broken, same
from validation.conformance.mask_laws import same_contents, two_folders
from validation.conformance.tiny_models import quiet, token_ids
from validation.conformance.trial import Subject, Trial, calibrated
from workloads.bundle import MaskBundle
from workloads.removal import Removal

CLOSE = 1e-4  # of the largest value, in float32


def counts_are_exact(subject: Subject | None, trial: Trial) -> None:
    """The weights that go are the share asked for, to the nearest unit of every kind, or the blocks are."""
    with TemporaryDirectory() as folder:
        bundle = trial.run(Path(folder))
        bundle.validate()
        shapes = {ref.layer.name: ref.layer.shape for block in find_refs(trial.checkpoint().model) for ref in block}
        same("layers", {entry.name: entry.unpruned.shape for entry in bundle.entries}, shapes, "of the model")
        removal, sparsity = bundle.removal, trial.recipe.sparsity
        if removal.sublayers:
            weights_are_near(bundle, sparsity)
        elif not removal.units:
            blocks = len(trial.checkpoint().blocks)
            same("blocks that go", len(removal.blocks), round(sparsity * blocks), "due")
        for kind, kept, of in removal.counts():
            ways = len([unit for unit in removal.units if unit.kind == kind])
            if abs((of - kept) - sparsity * of) > (0.5 * ways if len(list(removal.counts())) == 1 else of):
                raise Broken(f"{of - kept} of {of} {kind}s go, {sparsity * of:.1f} are due")
        if removal.words == "nothing":
            raise Broken("nothing goes")


def weights_are_near(bundle: MaskBundle, sparsity: float) -> None:
    """Of sub-layers: no further one would bring the weights taken out nearer to the share."""
    weights: dict[tuple[int, str], int] = {}
    for entry in bundle.entries:
        stem = entry.name.split(f".{entry.block}.", 1)[1].partition(".")[0]
        weights[entry.block, stem] = weights.get((entry.block, stem), 0) + entry.unpruned.n_weights
    taken = sum(entry.unpruned.n_weights for entry in bundle.gone)
    due = sparsity * sum(weights.values())
    if abs(taken - due) > max(weights.values()) / 2:
        raise Broken(f"{taken:,} weights go with their sub-layers, {due:,.0f} are due")


def smaller_is_masked(subject: Subject | None, trial: Trial) -> None:
    """Logits of the smaller model are those of the whole one whose removed units give zero, biases added."""
    with TemporaryDirectory() as folder:
        bundle = trial.run(Path(folder))
        biases = read_biases(bundle)
        small = trial.checkpoint()
        small.take_out(bundle.removal, biases)
        one, two = logits(small), logits(Silenced(trial.folder(), bundle.removal, biases))
        apart = float((one - two).abs().max())
        if apart > CLOSE * float(two.abs().max()):
            raise Broken(f"logits differ by {apart:.1e}, the largest is {float(two.abs().max()):.1e}")


class Silenced(Checkpoint):
    """Whole blocks in which the outputs' columns of removed units are zero, and all of removed sub-layers is."""

    def __init__(self, folder: Path, removal: Removal, biases: dict[str, torch.Tensor]):
        super().__init__(folder, torch.float32)
        self.take_out(Removal(removal.blocks), biases)
        self._silent = removal

    def load_block(self, number: int):
        block = super().load_block(number)
        for ref in find_refs(self.model)[number]:
            cut = self._silent.cuts.get(ref.layer.name)
            if cut is not None and number not in self.removal.blocks:
                ref.matrix(block)[:, torch.from_numpy(~cut.cols)] = 0
        for name, parameter in block.named_parameters():
            if self._silent.has_sublayer_of(f"{self.block_paths[number]}.{name}"):
                parameter.zero_()
        return block


@torch.no_grad()
def logits(checkpoint: Checkpoint) -> torch.Tensor:
    """Of a few random tokens, block by block."""
    model = BlockwiseModel(checkpoint)
    ids = token_ids(2, 8)
    hidden = model.embed(ids)
    for number in range(len(model.blocks)):
        block = checkpoint.load_block(number)
        hidden = model.run(number, hidden)
        checkpoint.release(block)
    with model.heads():
        return model.logits(ids, hidden)


def nothing_at_zero(subject: Subject | None, trial: Trial) -> None:
    """Everything stays, and its logits are the model's."""
    none = replace(trial, recipe=calibrated(replace(trial.recipe, sparsity=0.0)))
    with TemporaryDirectory() as folder:
        bundle = none.run(Path(folder))
        same("what goes", bundle.removal.words, "nothing", "at sparsity 0")
        small = trial.checkpoint()
        small.take_out(bundle.removal, read_biases(bundle))
        if not torch.equal(logits(small), logits(trial.checkpoint())):
            raise Broken("logits differ from the model's")


def order_changes_nothing(subject: Subject | None, trial: Trial) -> None:
    """Calibration sequences in another order take the same units out."""
    if trial.recipe.calibration is None:
        return
    turned = replace(trial.recipe.calibration, ids=trial.recipe.calibration.ids.flip(0))
    with two_folders() as (first, second):
        one = trial.run(first).removal
        two = replace(trial, recipe=replace(trial.recipe, calibration=turned)).run(second).removal
        same("blocks that go", sorted(two.blocks), sorted(one.blocks), "in the first order")
        for a, b in zip(one.units, two.units, strict=True):
            same(f"units of {a.key}", b.kept.tolist(), a.kept.tolist(), "in the first order")


class _Stopped(Exception):
    pass


def stopped_goes_on(subject: Subject | None, trial: Trial) -> None:
    """Wherever it is stopped."""
    with two_folders() as (whole, parts):
        trial.run(whole)
        for step in range(64):
            if run_until(trial, parts, step):
                break
        same_contents(whole, parts, "a run that was stopped again and again")


def run_until(trial: Trial, folder: Path, step: int) -> bool:
    """Whether the run came to its end; else it is stopped at the `step`-th thing it tells of."""
    told = iter(range(step + 1))

    def tell(*_: object) -> None:
        if next(told, None) is None:
            raise _Stopped

    try:
        prune(trial.checkpoint(), trial.recipe, folder, tell, quiet)
    except _Stopped:
        return False
    return True
