"""The sequential-pruned driver: block after block what its method needs is gathered, and it is pruned (and quantized).

One block's weights and the hidden states of the calibration set are in memory (calibrated.py). After every block its
masks and the hidden states are on disk, so a killed run continues there, to identical bytes.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from checkpoints.discovery import LinearRef
from checkpoints.opened import OpenModel
from checkpoints.prunable import all_refs, block_weights
from pruning.allocations import LayerSparsities
from pruning.applied import apply_bundle
from pruning.block_job import Warn
from pruning.evidence.gradients import gradient_file
from pruning.evidence.needs import ACTIVATIONS, GRADIENTS
from pruning.families import family_of
from pruning.forward.hidden_states import Progress
from pruning.methods.method import Evidence
from pruning.parallel import one_thread_per_operation
from pruning.recovery.state import forget
from pruning.rules import (
    global_keeper,
    keep_by_floored_row,
    keep_by_layer,
    keep_by_pattern,
    keep_by_row,
    keep_up_to_threshold,
)
from pruning.run.base import check_base, check_more
from pruning.run.calibrated import prune_with_activations
from pruning.run.context import Run
from pruning.run.entries import add_all
from pruning.run.gradients import gather_gradients
from pruning.run.jobs import decide, make_job
from pruning.run.layer_sparsities import layer_sparsities, to_the_weight
from pruning.run.recipe import Recipe
from pruning.run.structured import prune_structured
from pruning.run.trained import trained
from workloads.bundle import MaskBundle
from workloads.bundle_writer import BundleWriter
from workloads.errors import UserError
from workloads.layers import Layer
from workloads.locking import writing
from workloads.treatment import Treatment


def prune(checkpoint: OpenModel, recipe: Recipe, out: Path, progress: Progress, warn: Warn) -> MaskBundle:
    """Writes the bundle of `recipe` to `out`; a finished one is returned as it is, an unfinished one continued.

    Raises UserError for N:M and groups that do not divide, weights or scores that are not finite, a base bundle that
    does not fit, and folders that cannot be written or that another process writes to.
    """
    if recipe.base.masks is not None:
        if out.resolve() == recipe.base.masks.folder.resolve():
            raise UserError(f"`out` and `after` are both {out}; the new bundle needs a folder of its own")
        check_base(recipe.base, checkpoint, recipe.method)
        apply_bundle(checkpoint, recipe.base.masks)
    refs = all_refs(checkpoint)
    recipe.treatment([ref.layer for block in refs for ref in block])
    if recipe.calibration is not None:
        what = f"calibration {recipe.calibration.source}"
        family_of(checkpoint).check_data(checkpoint, recipe.calibration.data, what)
    header = recipe.header(checkpoint)
    with writing(out):
        writer = BundleWriter(out, header)
        if not writer.finished:
            with one_thread_per_operation():
                run = trained(start(checkpoint, recipe, writer, refs, progress, warn))
                if recipe.takes_out:
                    prune_structured(run)
                elif recipe.needs & ACTIVATIONS:
                    prune_with_activations(run)
                else:
                    prune_weights(run)
            (out / "allocation.json").unlink(missing_ok=True)
        bundle = writer.finish()
        forget(out)
        return bundle


def start(
    checkpoint: OpenModel,
    recipe: Recipe,
    writer: BundleWriter,
    refs: list[list[LinearRef]],
    progress: Progress,
    warn: Warn,
) -> Run:
    """Everything that comes before the first block: checks, allocation, gradients. Nothing is left of it if it
    fails."""
    begun = bool(writer.written)
    gathers = bool(recipe.needs & GRADIENTS) and not recipe.takes_out  # structured methods do it later
    treatment = recipe.treatment([ref.layer for block in refs for ref in block])
    treated = [[ref for ref in block if ref.layer.name in treatment.treated] for block in refs]
    try:
        if not begun:
            for text in treatment.words(recipe.pattern, recipe.quantization.group_size if recipe.quantization else 0):
                warn(text)
            if recipe.method.prunes and recipe.pattern is None and recipe.plan is None:
                check_more(recipe.base, treatment.treated, recipe.sparsity)
            if recipe.method.together > 1 and checkpoint.shared:
                raise UserError(
                    f"{checkpoint.folder}: its blocks share weights, so each is decided by itself; leave `span` out"
                )
            check_weights(checkpoint, refs, progress)
            if recipe.allocation is not None or gathers:
                writer.begin()
        sparsities = layer_sparsities(checkpoint, recipe, treated, writer.folder, progress)
        if not recipe.method.floors and not recipe.method.leaves:
            sparsities = to_the_weight(sparsities, unstructured(recipe, treated, treatment, sparsities))
        keeper = make_keeper(checkpoint, recipe, treated, treatment, sparsities)
        run = Run(checkpoint, recipe, writer, progress, warn, refs, treated, treatment, sparsities, keeper)
        if gathers and not begun:
            gather_gradients(run, family_of(checkpoint).walk(checkpoint))
            checkpoint.release(checkpoint.model)
    except UserError:
        if not begun:
            writer.discard()
        raise
    return run


def unstructured(
    recipe: Recipe, refs: list[list[LinearRef]], treatment: Treatment, sparsities: LayerSparsities
) -> list[Layer]:
    """The treated layers that follow no N:M, and of which a plan takes something."""
    layers = [ref.layer for block in refs for ref in block]
    if recipe.plan is not None:
        patterns, shares = sparsities.patterns or {}, sparsities.sparsity
        return [layer for layer in layers if layer.name not in patterns and shares[layer.name] > 0]
    return [layer for layer in layers if recipe.pattern is None or layer.name in treatment.loose]


def check_weights(checkpoint: OpenModel, refs: list[list[LinearRef]], progress: Progress) -> None:
    """Raises UserError naming the first matrix with NaN or Inf, before anything is written."""
    for number, block in enumerate(refs):
        progress("checking weights", number, len(refs))
        for layer, weight in block_weights(checkpoint, block, number):
            extremes = torch.stack(torch.aminmax(weight))  # NaN is both; isfinite makes copies of the matrix
            if not bool(torch.isfinite(extremes).all()):
                bad = int((~torch.isfinite(weight)).sum())
                raise UserError(
                    f"{layer.name}: {bad} of {weight.numel()} weights are NaN or Inf; repair the checkpoint"
                )


def make_keeper(
    checkpoint: OpenModel,
    recipe: Recipe,
    refs: list[list[LinearRef]],
    treatment: Treatment,
    sparsities: LayerSparsities,
) -> Callable[[LinearRef, torch.Tensor], torch.Tensor]:
    """(matrix, scores) -> keep mask, under the recipe's rule, which compares the matrices `refs` alone."""
    asked, patterns = recipe.pattern, sparsities.patterns or {}
    if recipe.method.floors:
        by_rule = keep_by_floored_row if recipe.rule == "row" else keep_up_to_threshold
    else:
        by_rule = keep_by_row if recipe.rule == "row" else keep_by_layer

    def keep_own(ref: LinearRef, scores: torch.Tensor) -> torch.Tensor:
        name = ref.layer.name
        pattern = treatment.pattern(name, patterns.get(name, asked))
        before = recipe.base.keep(name)
        if before is not None:  # what is pruned already goes first
            scores = scores.masked_fill(~before.to(scores.device), -torch.inf)
        return by_rule(scores, sparsities.sparsity[name]) if pattern is None else keep_by_pattern(scores, pattern)

    if recipe.rule != "global" or asked is not None:
        return keep_own

    def all_scores() -> Iterator[torch.Tensor]:
        for number, block in enumerate(refs):
            for _, weight in block_weights(checkpoint, block, number):
                yield score(weight)

    def score(weight: torch.Tensor) -> torch.Tensor:
        return recipe.method.score(weight, Evidence(0))

    keep = global_keeper(all_scores, recipe.sparsity)
    return lambda ref, scores: keep(scores)


def prune_weights(run: Run) -> None:
    """Methods that need no hidden states."""
    for number in range(len(run.refs)):
        run.progress("pruning", number, len(run.refs))
        if not run.names(number):
            continue
        block = run.checkpoint.load_block(number)
        if not run.is_written(number):
            add_all(run, number, decide(run, make_job(run, [number], [block])) if run.treated[number] else {})
            run.writer.commit()
        elif run.recipe.rule == "global" and run.treated[number]:  # counts the ties it has taken
            decide(run, make_job(run, [number], [block]))
        run.checkpoint.release(block)
        gradient_file(run.writer.folder, number).unlink(missing_ok=True)
