"""The sequential-pruned driver: block after block is run dense on what the pruned blocks before it produce, what its
method needs is gathered, it is pruned (and quantized), and run again to feed the next block.

One block's weights and the hidden states of the calibration set are in memory. After every block its masks and the
hidden states are on disk, so a killed run continues there, to identical bytes.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from checkpoints.discovery import LinearRef
from checkpoints.opened import OpenModel
from checkpoints.prunable import all_refs, block_weights, parameter_name
from pruning.allocations import LayerSparsities
from pruning.applied import apply_bundle
from pruning.block_job import BlockJob, Decision, Warn
from pruning.evidence.gradients import gradient_file, read_gradients
from pruning.evidence.moments import InputMoments, InputWatch, Sums, merge
from pruning.evidence.needs import ACTIVATIONS, GRADIENTS, Need, gradient_sums
from pruning.families import family_of
from pruning.forward.feeding import first_sample
from pruning.forward.hidden_states import Progress, Streams, hidden_file, micro_batches, read_hidden, write_hidden
from pruning.forward.shared import SharedWeights
from pruning.forward.walk import Walk
from pruning.methods.method import Evidence
from pruning.parallel import one_thread_per_operation, ordered_map
from pruning.quantization_grid import QuantizationGrid
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
from pruning.run.context import Run
from pruning.run.entries import add_all, apply
from pruning.run.gradients import gather_gradients
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

HESSIAN_TOKENS = 1024


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
            add_all(run, number, decide(run, make_job(run, number, block)) if run.treated[number] else {})
            run.writer.commit()
        elif run.recipe.rule == "global" and run.treated[number]:  # counts the ties it has taken
            decide(run, make_job(run, number, block))
        run.checkpoint.release(block)
        gradient_file(run.writer.folder, number).unlink(missing_ok=True)


def prune_with_activations(run: Run) -> None:
    assert run.recipe.calibration is not None
    folder, count = run.writer.folder, len(run.refs)
    model = family_of(run.checkpoint).walk(run.checkpoint)
    data = run.recipe.calibration.data
    embedded = [model.embed(batch) for batch in micro_batches(data)]
    model.embed(first_sample(data))  # methods that learn run single sequences
    run.checkpoint.release(run.checkpoint.model)
    shared = SharedWeights(run.checkpoint, folder)
    first = max((n + 1 for n in range(count) if run.is_written(n)), default=0)
    last = max(number for number, block in enumerate(run.treated) if block)
    streams: Streams = {"inputs": embedded} | ({"dense": embedded} if Need.DENSE in run.recipe.needs else {})
    if 0 < first <= last:
        streams = read_hidden(folder, first, streams)
    del embedded
    for number in range(first):  # the killed run may not have come to delete its own
        hidden_file(folder, number).unlink(missing_ok=True)
        gradient_file(folder, number).unlink(missing_ok=True)
    batches = micro_batches(data)
    for number in range(first, count):
        run.progress("pruning", number, count)
        block = run.checkpoint.load_block(number)
        shared.take_up(number, block)
        following, decisions = streams, {}
        if run.treated[number]:
            job = make_job(run, number, block, model, streams)
            decisions = decide(run, job)
            apply(run, number, block, decisions)
            shared.keep(number, block)
            if number < last:
                following = {"inputs": replaced(job.run, job.inputs, "dense" in streams)}
                if job.dense_outputs:
                    following["dense"] = job.dense_outputs
        elif number < last:
            following = through(partial(model.run, number), streams)
        add_all(run, number, decisions)
        if number < last:
            following = advance(model, number + 1, batches, following)
            write_hidden(folder, number + 1, following)
        streams = following
        run.writer.commit()
        run.checkpoint.release(block)
        hidden_file(folder, number).unlink(missing_ok=True)
        gradient_file(folder, number).unlink(missing_ok=True)
    shared.forget()


def replaced(
    block: Callable[[torch.Tensor], torch.Tensor], batches: list[torch.Tensor], wanted: bool
) -> list[torch.Tensor]:
    """The states behind a block, in the place of those before it unless these are still wanted."""
    after = list(batches) if wanted else batches
    for number, batch in enumerate(ordered_map(block, batches)):
        after[number] = batch
    return after


def through(block: Callable[[torch.Tensor], torch.Tensor], streams: Streams) -> Streams:
    """The states behind a block that stays as it is; streams that are one stay one."""
    made = {id(batches): list(ordered_map(block, batches)) for batches in streams.values()}
    return {name: made[id(batches)] for name, batches in streams.items()}


def advance(model: Walk, number: int, batches: list[torch.Tensor], streams: Streams) -> Streams:
    """What enters block `number`; streams that are one stay one."""
    made = {id(states): model.advance_all(number, batches, states) for states in streams.values()}
    return {name: made[id(states)] for name, states in streams.items()}


def make_job(
    run: Run, number: int, block: nn.Module, model: Walk | None = None, streams: Streams | None = None,
    needs: frozenset[Need] | None = None,
) -> BlockJob:  # fmt: skip
    """The job of one loaded block, with everything gathered that the recipe, or `needs` in its place, asks for of its
    treated matrices."""
    recipe, refs = run.recipe, run.treated[number]
    names = [ref.layer.name for ref in refs]
    gradients = gradient_file(run.writer.folder, number)
    job = BlockJob(
        number=number,
        block=block,
        refs=refs,
        run=partial(model.run, number) if model is not None else lambda hidden: hidden,
        sparsity={name: run.sparsities.sparsity[name] for name in names},
        patterns={name: run.pattern(name) for name in names},
        keeper=run.keeper,
        warn=run.warn,
        grid=partial(grid_of, run) if recipe.quantizes_jointly else lambda ref: None,
        samples=len(recipe.calibration.ids) if recipe.calibration is not None else 0,
        gradients=only_sum(run, number) if gradients.exists() else None,
        curves=recipe.costs.curves if recipe.costs is not None else None,
    )
    if streams is not None:
        observe(job, recipe.needs if needs is None else needs, streams, with_peers(run.refs[number], refs))
    return job


def only_sum(run: Run, number: int) -> dict[str, torch.Tensor]:
    """The gradients of a block by layer name, of methods that decide matrix by matrix: they need one sum."""
    return read_gradients(run.writer.folder, number)[gradient_sums(run.recipe.needs)[0]]


def with_peers(refs: list[LinearRef], treated: list[LinearRef]) -> list[LinearRef]:
    """The treated matrices, and the experts stacked with them, whose inputs stand in where few tokens reach one."""
    stacks = {(ref.module_path, ref.parameter) for ref in treated}
    return [ref for ref in refs if (ref.module_path, ref.parameter) in stacks]


def observe(job: BlockJob, needs: frozenset[Need], streams: Streams, watched: list[LinearRef]) -> None:
    """Runs the dense block over the streams and notes what is needed, of the matrices `watched`."""
    job.inputs = streams["inputs"]
    total: Sums = {}
    keep_outputs = Need.OUTPUTS in needs or (Need.DENSE in needs and streams["dense"] is streams["inputs"])
    watch_for = {"hessian": Need.HESSIAN in needs, "absolute": Need.ABSOLUTE in needs, "outputs": keep_outputs}
    with InputWatch(job.block, watched, **watch_for) as watch:

        def one(batch: torch.Tensor) -> tuple[torch.Tensor | None, Sums]:
            outputs: list[torch.Tensor] = []
            sums: Sums = {}
            for piece in batch.split(at_once(batch) if Need.HESSIAN in needs else len(batch)):
                output, seen = watch.observe(partial(job.run, piece))
                merge(sums, seen)
                outputs += [output] if keep_outputs else []
            return torch.cat(outputs) if keep_outputs else None, sums

        for output, sums in ordered_map(one, job.inputs, large=Need.HESSIAN in needs):
            merge(total, sums)
            if output is not None:
                job.outputs.append(output)
    for name, moments in total.items():
        if not bool(torch.isfinite(moments.energy).all()):
            raise UserError(f"{name}: calibration activations are NaN or Inf; use `dtype=float32` or bfloat16")
    job.moments = InputMoments(job.samples, total)
    if Need.DENSE in needs:
        job.dense_inputs = streams["dense"]
        same = streams["dense"] is streams["inputs"]  # at the first block
        job.dense_outputs = job.outputs if same else list(ordered_map(job.run, job.dense_inputs))


def at_once(batch: torch.Tensor) -> int:
    """Sequences of (sequences, tokens, ...) whose inputs wait together for their X^T X."""
    return max(1, HESSIAN_TOKENS // batch.shape[1])


def grid_of(run: Run, ref: LinearRef) -> QuantizationGrid | None:
    """None where a plan leaves the matrix as floats."""
    assert run.recipe.quantization is not None
    grid, bits = run.recipe.quantization.grid(run.checkpoint.stored_dtype(parameter_name(ref))), run.sparsities.bits
    if bits is not None:
        if ref.layer.name not in bits:
            return None
        grid = replace(grid, bits=bits[ref.layer.name])
    return replace(grid, group_size=run.treatment.group_size(ref.layer.name, grid.group_size))


def decide(run: Run, job: BlockJob) -> dict[str, Decision]:
    """The method's decisions, within the masks of the base, quantized if the recipe says so and the method has not done
    it (methods 18.6)."""
    recipe, quantization = run.recipe, run.recipe.quantization
    decisions = recipe.base.within(recipe.method.decide(job) if run.decided is None else run.decisions(job))
    if not run.is_written(job.number):
        run.writer.record(job.number, job.facts)
    if quantization is None or recipe.quantizes_jointly:
        return decisions
    job = replace(job, grid=partial(grid_of, run), refs=[ref for ref in job.refs if grid_of(run, ref) is not None])
    if not job.refs:
        return decisions
    names = {ref.layer.name for ref in job.refs}
    floats = {name: decision for name, decision in decisions.items() if name not in names}
    return floats | on_grids(run, job, {name: decision for name, decision in decisions.items() if name in names})


def on_grids(run: Run, job: BlockJob, decisions: dict[str, Decision]) -> dict[str, Decision]:
    """Of the matrices of the job."""
    recipe, quantization = run.recipe, run.recipe.quantization
    assert quantization is not None
    if quantization.quantizer.order == "prune-first":
        return quantization.quantizer.apply(job, decisions)
    whole = {name: Decision(torch.ones_like(decision.keep)) for name, decision in decisions.items()}
    made = quantization.quantizer.apply(job, recipe.base.within(whole))
    masked = {}
    for name, decision in decisions.items():
        quantized = made[name].quantized
        assert quantized is not None
        quantized = quantized.masked(decision.keep)
        masked[name] = Decision(decision.keep, quantized.dequantize(), quantized)
    return masked
