"""The job of one block, or of several that are decided together, and what the method decides of it."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from checkpoints.discovery import LinearRef
from checkpoints.prunable import parameter_name
from pruning.block_job import BlockJob, Decision
from pruning.evidence.gradients import gradient_file, read_gradients
from pruning.evidence.moments import InputMoments, InputWatch, Sums, merge
from pruning.evidence.needs import Need, gradient_sums
from pruning.forward.hidden_states import Streams
from pruning.forward.walk import Walk
from pruning.parallel import ordered_map
from pruning.quantization_grid import QuantizationGrid
from pruning.run.context import Run
from workloads.errors import UserError

HESSIAN_TOKENS = 1024


def make_job(
    run: Run, numbers: Sequence[int], blocks: Sequence[nn.Module], model: Walk | None = None,
    streams: Streams | None = None, needs: frozenset[Need] | None = None,
) -> BlockJob:  # fmt: skip
    """The job of loaded blocks in a row, most often of one, with everything gathered that the recipe, or `needs` in
    its place, asks for of their treated matrices."""
    recipe = run.recipe
    refs = [ref for i, n in enumerate(numbers) for ref in within(run.treated[n], i, len(numbers))]
    names = [ref.layer.name for ref in refs]
    gradients: dict[str, torch.Tensor] = {}
    for number in numbers:
        if run.treated[number] and gradient_file(run.writer.folder, number).exists():
            gradients |= only_sum(run, number)
    job = BlockJob(
        number=numbers[0],
        together=len(numbers),
        block=blocks[0] if len(blocks) == 1 else nn.ModuleList(blocks),
        refs=refs,
        run=partial(run_all, model, numbers) if model is not None else lambda hidden: hidden,
        sparsity={name: run.sparsities.sparsity[name] for name in names},
        patterns={name: run.pattern(name) for name in names},
        keeper=run.keeper,
        warn=run.warn,
        grid=partial(grid_of, run) if recipe.quantizes_jointly else lambda ref: None,
        samples=len(recipe.calibration.ids) if recipe.calibration is not None else 0,
        gradients=gradients or None,
        curves=recipe.costs.curves if recipe.costs is not None else None,
    )
    if streams is not None:
        peers = [with_peers(run.refs[n], run.treated[n]) for n in numbers]
        watched = [ref for i, own in enumerate(peers) for ref in within(own, i, len(numbers))]
        observe(job, recipe.needs if needs is None else needs, streams, watched)
    return job


def within(refs: list[LinearRef], place: int, count: int) -> list[LinearRef]:
    """The matrices of a block as those of a list of `count` blocks, where it stands at `place`; of one block its
    own."""
    return refs if count == 1 else [replace(r, module_path=f"{place}.{r.module_path}".rstrip(".")) for r in refs]


def run_all(model: Walk, numbers: Sequence[int], hidden: torch.Tensor) -> torch.Tensor:
    """Output of the last of loaded blocks in a row."""
    for number in numbers:
        hidden = model.run(number, hidden)
    return hidden


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
    for number in range(job.number, job.number + job.together):
        if run.treated[number] and not run.is_written(number):
            run.writer.record(number, job.facts)
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
