"""What the masks of a pruning method must be."""

from contextlib import ExitStack
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from checkpoints.checkpoint import Checkpoint
from checkpoints.prunable import all_refs
from validation.conformance.laws import Broken, same
from validation.conformance.tiny_models import contents
from validation.conformance.trial import Subject, Trial, calibrated
from workloads.bundle import MaskBundle


def counts_are_exact(subject: Subject | None, trial: Trial) -> None:
    """Fused and grouped attention, biases, transposed storage, experts: every matrix has its mask, of the count asked
    for."""
    with TemporaryDirectory() as folder:
        bundle = trial.run(Path(folder))
        bundle.validate()
        refs = [ref for block in all_refs(trial.checkpoint()) for ref in block]
        same("layers", [entry.name for entry in bundle.layers], [ref.layer.name for ref in refs], "of the model")
        exact(trial, bundle)


def exact(trial: Trial, bundle: MaskBundle) -> None:
    """As many pruned as sparsity x n, in whole numbers, rounded down, wherever the trial says so: of the first so many
    matrices or blocks together, so that each of them is less than one weight off its own share, and of rows one more or
    none."""
    pruned: dict[object, int] = {}
    sizes: dict[object, int] = {}
    for entry, packed in bundle:
        mask = packed.to_dense()
        places = {"row": entry.name, "layer": entry.name, "block": entry.block}
        place: object = places.get(trial.exact, "the model")
        pruned[place] = pruned.get(place, 0) + int((~mask).sum())
        sizes[place] = sizes.get(place, 0) + mask.size
        if trial.exact == "row":
            for row, number in enumerate((~mask).sum(axis=1)):
                least = due(trial, mask.shape[1])
                same(f"{entry.name}, row {row}: pruned", int(number), min(max(int(number), least), least + 1), "due")
        if trial.exact == "run":
            assert trial.recipe.pattern is not None
            n, m = trial.recipe.pattern.n, trial.recipe.pattern.m
            kept = mask.reshape(-1, m).sum(axis=1)
            if (kept != n).any():
                raise Broken(f"{entry.name}: {int((kept != n).sum())} of {len(kept)} runs of {m} do not keep {n}")
    if trial.exact in ("row", "layer", "block", "model"):
        for place, number, size in zip(pruned, accumulate(pruned.values()), accumulate(sizes.values()), strict=True):
            same(f"up to {place}: pruned", number, due(trial, size), "due")


def due(trial: Trial, size: int) -> int:
    """Whole-number arithmetic for fractions that floating point does not have."""
    sparsity = trial.recipe.sparsity if trial.recipe.method.prunes else 0.0
    return size * round(sparsity * 1000) // 1000


def nothing_at_zero(subject: Subject | None, trial: Trial) -> None:
    """Sparsity 0 prunes nothing."""
    none = replace(trial, recipe=calibrated(replace(trial.recipe, sparsity=0.0)))
    with TemporaryDirectory() as folder:
        for entry, mask in none.run(Path(folder)):
            same(f"{entry.name}: pruned at sparsity 0", entry.out_features * entry.in_features - mask.nnz, 0, "due")


def same_again(subject: Subject | None, trial: Trial) -> None:
    """Two runs of one recipe write the same bytes."""
    with two_folders() as (first, second):
        trial.run(first)
        trial.run(second)
        same_contents(first, second, "a second run")


def same_from_shards(subject: Subject | None, trial: Trial) -> None:
    """Whether the files hold one shard or many."""
    with two_folders() as (first, second):
        one = trial.run(first)
        many = trial.run(second, trial.checkpoint("10KB"))
        for a, b in zip(one.layers, many.layers, strict=True):
            hashes = (a.sha256, a.values_sha256), (b.sha256, b.values_sha256)
            same(f"{a.name}: hashes of mask and values from many shards", hashes[1], hashes[0], "from one")


def same_in_memory(subject: Subject | None, trial: Trial) -> None:
    """Whether blocks are streamed, or the checkpoint is loaded whole once and gives nothing back."""
    if trial.recipe.rule == "global":
        return  # it reads the weights a second time, which are pruned by then
    with two_folders() as (streamed, held):
        trial.run(streamed)
        checkpoint = Held(trial.folder(), torch.float32)
        checkpoint.load_rest()
        for number in range(len(checkpoint.blocks)):
            Checkpoint.load_block(checkpoint, number)
        trial.run(held, checkpoint)
        same_contents(streamed, held, "a run in memory")


class Held(Checkpoint):
    """Keeps what it has loaded."""

    def release(self, module: nn.Module) -> None:
        self.unsilence(module)

    def load_block(self, number: int) -> nn.Module:
        self.silence(number)
        return self.blocks[number]


def leaves_the_model_alone(subject: Subject | None, trial: Trial) -> None:
    """No hook and no stand-in stays, and the memory of the blocks is given back."""
    checkpoint = trial.checkpoint()
    with TemporaryDirectory() as folder:
        trial.run(Path(folder), checkpoint)
    for name, module in checkpoint.model.named_modules():
        if module._forward_pre_hooks or module._forward_hooks:
            raise Broken(f"{name or 'the model'} still has {len(module._forward_hooks)} hooks")
        if "forward" in vars(module):
            raise Broken(f"{name or 'the model'} still has another `forward`")
    for number, block in enumerate(checkpoint.blocks):
        for name, parameter in block.named_parameters():
            if not parameter.is_meta or parameter.requires_grad:
                raise Broken(f"block {number}: {name} is still in memory, or still asks for gradients")


def same_contents(first: Path, second: Path, what: str) -> None:
    one, two = contents(first), contents(second)
    same(f"files of {what}", sorted(two), sorted(one), "of the first")
    for name in one:
        if one[name] != two[name]:
            raise Broken(f"{what} writes another {name}")


class two_folders(ExitStack):
    def __enter__(self) -> tuple[Path, Path]:  # type: ignore[override]
        return tuple(Path(self.enter_context(TemporaryDirectory())) for _ in range(2))  # type: ignore[return-value]
