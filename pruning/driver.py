"""The sequential-pruned driver: block after block is run dense on what the pruned blocks before it produce, its input
statistics are gathered, it is pruned, and run again to feed the next block.

One block's weights and the hidden states of the calibration set are in memory. After every block its masks and the hidden
states are on disk, so a killed run continues there, to identical bytes.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from pruning.blockwise import BlockwiseModel
from pruning.calibration import Calibration, check_ids
from pruning.methods import Method
from pruning.parallel import one_thread_per_operation, ordered_map
from pruning.selection import global_keeper, keep_by_layer, keep_by_pattern, keep_by_row
from pruning.statistics import InputEnergy, Sums, merge
from workloads import __version__
from workloads.bundle import BundleHeader, MaskBundle
from workloads.bundle_writer import BundleWriter
from workloads.checkpoint import Checkpoint
from workloads.discovery import LinearRef, block_linears
from workloads.errors import UserError
from workloads.files import replacing
from workloads.layers import Layer
from workloads.mask import PackedMask
from workloads.patterns import NofM

BATCH_TOKENS = 4096  # tokens a block sees at once
Progress = Callable[[str, int, int], None]  # (what, done, of)
Warn = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the masks of a given model."""

    model_id: str
    method: Method
    parameters: Any
    sparsity: float
    rule: str
    pattern: NofM | None = None
    calibration: Calibration | None = None
    seed: int = 0

    @property
    def pattern_name(self) -> str:
        return str(self.pattern) if self.pattern else "unstructured"

    def header(self, checkpoint: Checkpoint) -> BundleHeader:
        settings = {**vars(self.parameters), "rule": "pattern" if self.pattern else self.rule}
        return BundleHeader(
            model_id=self.model_id,
            method=self.method.name,
            pattern=self.pattern_name,
            parameters={**settings, "dtype": str(checkpoint.model.dtype).removeprefix("torch.")},
            seed=self.seed,
            target_sparsity=self.sparsity,
            model_config={**checkpoint.config.to_dict(), "weights_sha256": checkpoint.sha256()},
            calibration=self.calibration.facts if self.calibration else None,
            tool_version=__version__,
        )


@dataclass
class Run:
    """One pruning run in progress."""

    checkpoint: Checkpoint
    recipe: Recipe
    writer: BundleWriter
    progress: Progress
    warn: Warn
    keeper: Callable[[torch.Tensor], torch.Tensor]
    refs: list[list[LinearRef]] = field(default_factory=list)


def prune(checkpoint: Checkpoint, recipe: Recipe, out: Path, progress: Progress, warn: Warn) -> MaskBundle:
    """Writes the bundle of `recipe` to `out`; a finished one is returned as it is, an unfinished one continued.

    Raises UserError for N:M that does not divide, weights or scores that are not finite, and unwritable folders.
    """
    refs = all_refs(checkpoint)
    check_shapes(refs, recipe.pattern)
    if recipe.calibration is not None:
        check_ids(recipe.calibration.ids, checkpoint.config, f"calibration {recipe.calibration.source}")
    writer = BundleWriter(out, recipe.header(checkpoint))
    if writer.finished:
        return writer.finish()
    if not writer.written:
        try:
            check_weights(checkpoint, refs, progress)
        except UserError:
            with suppress(OSError):
                out.rmdir()  # made a moment ago; stays if anything is in it
            raise
    with one_thread_per_operation():
        run = Run(checkpoint, recipe, writer, progress, warn, make_keeper(checkpoint, recipe, refs), refs)
        if recipe.method.needs_activations:
            prune_with_activations(run)
        else:
            prune_weights(run)
    return writer.finish()


def all_refs(checkpoint: Checkpoint) -> list[list[LinearRef]]:
    """The prunable matrices of every block."""
    return [block_linears(block, f"{checkpoint.block_path}.{n}", n) for n, block in enumerate(checkpoint.blocks)]


def check_shapes(refs: list[list[LinearRef]], pattern: NofM | None) -> None:
    if pattern is not None:
        for block in refs:
            for ref in block:
                pattern.check_divides(ref.layer.in_features, ref.layer.name)


def check_weights(checkpoint: Checkpoint, refs: list[list[LinearRef]], progress: Progress) -> None:
    """Raises UserError naming the first matrix with NaN or Inf, before anything is written."""
    for number, _ in enumerate(refs):
        progress("checking weights", number, len(refs))
        for layer, weight in block_weights(checkpoint, refs, number):
            if not bool(torch.isfinite(weight).all()):
                bad = int((~torch.isfinite(weight)).sum())
                raise UserError(
                    f"{layer.name}: {bad} of {weight.numel()} weights are NaN or Inf; repair the checkpoint"
                )


def block_weights(
    checkpoint: Checkpoint, refs: list[list[LinearRef]], number: int
) -> Iterator[tuple[Layer, torch.Tensor]]:
    """The (out, in) float32 matrices of one block, loaded and released."""
    block = checkpoint.load_block(number)
    for ref in refs[number]:
        yield ref.layer, ref.matrix(block).float()
    checkpoint.release(block)


def make_keeper(
    checkpoint: Checkpoint, recipe: Recipe, refs: list[list[LinearRef]]
) -> Callable[[torch.Tensor], torch.Tensor]:
    """scores -> keep mask, under the recipe's rule."""
    if recipe.pattern is not None:
        return partial(keep_by_pattern, pattern=recipe.pattern)
    if recipe.rule == "row":
        return partial(keep_by_row, sparsity=recipe.sparsity)
    if recipe.rule == "layer":
        return partial(keep_by_layer, sparsity=recipe.sparsity)

    def all_scores() -> Iterator[torch.Tensor]:
        for number in range(len(refs)):
            for _, weight in block_weights(checkpoint, refs, number):
                yield recipe.method.score(recipe.parameters, weight, None)

    return global_keeper(all_scores, recipe.sparsity)


def prune_weights(run: Run) -> None:
    """Methods that look at weights alone."""
    written = run.writer.written
    for number in range(len(run.refs)):
        run.progress("pruning", number, len(run.refs))
        for layer, weight in block_weights(run.checkpoint, run.refs, number):
            keep = choose(run, layer, weight, None)
            if layer.name not in written:
                add(run, layer, keep)
        run.writer.commit()


def prune_with_activations(run: Run) -> None:
    assert run.recipe.calibration is not None
    model = BlockwiseModel(run.checkpoint)
    batches = micro_batches(run.recipe.calibration.ids)
    embedded = [model.embed(batch) for batch in batches]
    run.checkpoint.release(run.checkpoint.model)
    first = sum(1 for block in run.refs if block[0].layer.name in run.writer.written)
    resumed = 0 < first < len(run.refs)
    hidden = read_hidden(run.writer.folder, first, embedded) if resumed else embedded
    del embedded
    for number in range(first):  # the killed run may not have come to delete its own
        hidden_file(run.writer.folder, number).unlink(missing_ok=True)
    for number in range(first, len(run.refs)):
        run.progress("pruning", number, len(run.refs))
        block = run.checkpoint.load_block(number)
        prune_block(run, model, block, number, hidden)
        if number + 1 < len(run.refs):
            hidden = list(ordered_map(partial(model.run, number), hidden))
            write_hidden(run.writer.folder, number + 1, hidden)
        run.writer.commit()
        run.checkpoint.release(block)
        hidden_file(run.writer.folder, number).unlink(missing_ok=True)


def prune_block(run: Run, model: BlockwiseModel, block: nn.Module, number: int, hidden: list[torch.Tensor]) -> None:
    """Gathers statistics on the dense block, then masks its weights in place."""
    refs = run.refs[number]
    total: Sums = {}
    with InputEnergy(block, refs) as energy:
        for _, sums in ordered_map(lambda batch: energy.observe(lambda: model.run(number, batch)), hidden):
            merge(total, sums)
    samples = sum(len(batch) for batch in hidden)
    for ref in refs:
        weight = ref.matrix(block)
        energies = total.get(ref.layer.name)
        if energies is not None and bool(energies.any()):
            norm = (energies / samples).sqrt().float()
        else:
            run.warn(f"{ref.layer.name}: no calibration token reached it (or only zeros); scored by magnitude")
            norm = torch.ones(ref.layer.in_features)
        keep = choose(run, ref.layer, weight.float(), norm)
        weight.masked_fill_(~keep, 0)
        add(run, ref.layer, keep)


def choose(run: Run, layer: Layer, weight: torch.Tensor, feature_norm: torch.Tensor | None) -> torch.Tensor:
    """The keep mask of one matrix. Raises UserError if a score is not finite."""
    scores = run.recipe.method.score(run.recipe.parameters, weight, feature_norm)
    if not bool(torch.isfinite(scores).all()):
        raise UserError(
            f"{layer.name}: a score is NaN or Inf (weights or calibration activations overflow); use --dtype float32"
        )
    return run.keeper(scores)


def add(run: Run, layer: Layer, keep: torch.Tensor) -> None:
    dead_rows = int((~keep.any(dim=1)).sum())
    if dead_rows:
        run.warn(f"{layer.name}: {dead_rows} of {layer.out_features} rows lost every weight")
    run.writer.add(layer, PackedMask.from_dense(keep.numpy()), run.recipe.pattern_name)


def micro_batches(ids: torch.Tensor) -> list[torch.Tensor]:
    """(batch, seq) pieces of about BATCH_TOKENS tokens."""
    return list(ids.split(max(1, BATCH_TOKENS // ids.shape[1])))


def hidden_file(folder: Path, number: int) -> Path:
    """Where the hidden states that enter block `number` wait while the run is unfinished."""
    return folder / f"hidden-{number:05d}.safetensors"


def write_hidden(folder: Path, number: int, hidden: list[torch.Tensor]) -> None:
    with replacing(hidden_file(folder, number)) as part:
        save_file({f"{i:06d}": batch.contiguous() for i, batch in enumerate(hidden)}, part)


def read_hidden(folder: Path, number: int, like: list[torch.Tensor]) -> list[torch.Tensor]:
    if not hidden_file(folder, number).exists():
        raise UserError(
            f"{folder}: cannot continue, {hidden_file(folder, number).name} is missing; delete it and start again"
        )
    try:
        with safe_open(hidden_file(folder, number), framework="pt") as reader:
            return [reader.get_tensor(f"{i:06d}") for i in range(len(like))]
    except (SafetensorError, OSError) as error:
        raise UserError(f"{folder}: cannot continue ({error}); delete it and start again") from None
