"""From a run of a method that trains to the loop, and back: the decisions that the driver then goes over the blocks
with. The whole model is in memory meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import LinearRef
from checkpoints.network import Network
from checkpoints.opened import OpenModel
from checkpoints.prunable import parameter_name
from pruning.block_job import Decision
from pruning.data.calibration import in_own_order
from pruning.families.channels import ChannelGroups
from pruning.forward.network_walk import SAMPLES
from pruning.methods.structured.ffr import Ffr
from pruning.methods.trained.choosing import Choosing
from pruning.methods.trained.method import TrainedMethod
from pruning.recovery.examples import Examples
from pruning.recovery.flow_objective import FlowObjective
from pruning.recovery.loop import Data, Diverged, Loop
from pruning.recovery.masked_weights import FullWeight, MaskedWeight
from pruning.recovery.network_flow import NetworkFlow
from pruning.recovery.network_objective import with_dense_outputs
from pruning.recovery.objective import Batch, Objective
from pruning.recovery.plan import default_lr
from pruning.recovery.schedule import Schedule
from pruning.recovery.start import check_learns, hidden_of, load_whole, objective_of, put_away
from pruning.recovery.state import has_state
from pruning.recovery.trainer import Trainer
from pruning.run.context import Run
from pruning.run.layer_sparsities import scored_weights
from pruning.structured.units import groups_of
from workloads.errors import NotForThisModel, UserError
from workloads.removal import NEURON

SAVES = 20  # states of a run, evenly


def trained(run: Run) -> Run:
    """The run with what training decided of its treated matrices, of a method that trains; where nothing goes nothing
    is trained."""
    method = run.recipe.method
    if not method.trains:
        return run
    refs = [ref for block in run.treated for ref in block]
    if isinstance(method, Ffr) and not method.steps:
        return run
    if not any(run.pattern(ref.layer.name) or run.sparsities.sparsity[ref.layer.name] for ref in refs):
        return replace(run, decided={ref.layer.name: Decision(torch.ones(ref.layer.shape).bool()) for ref in refs})
    fresh = not has_state(run.writer.folder)
    run.writer.begin()
    try:
        run = replace(run, decided=learn(run, refs))
        if run.recipe.takes_out:
            run.checkpoint.then(partial(write, run))
        return run
    except UserError as error:
        if fresh or isinstance(error, Diverged):
            run.writer.discard()
        raise


@torch.no_grad()
def write(run: Run, number: int, block: nn.Module) -> None:
    """Puts what training made into a loaded block, so that it is what is scored."""
    if number not in run.checkpoint.removal.blocks and run.decided is not None:
        for ref in run.refs[number]:
            weight = run.decided[ref.layer.name].weight
            if weight is not None:
                ref.matrix(block).copy_(weight.to(run.checkpoint.stored_dtype(parameter_name(ref))))


def learn(run: Run, refs: list[LinearRef]) -> dict[str, Decision]:
    """One decision for every matrix."""
    method, checkpoint = run.recipe.method, run.checkpoint
    assert isinstance(method, TrainedMethod | Ffr)
    check_learns(checkpoint)
    if isinstance(method, Ffr) and isinstance(checkpoint, Network):
        ChannelGroups(checkpoint, method.kinds)  # refuses before anything is trained
    data = examples(run)
    norms = input_norms(run) if isinstance(method, TrainedMethod) and method.scores == "wanda" else {}
    run.progress("loading the model", 0, 0)
    with loaded(checkpoint):
        weights: list[MaskedWeight] = [whole_weight(run, ref) for ref in refs]
        schedule = schedule_of(run, method, checkpoint)
        hook = None
        if isinstance(method, Ffr):
            first = data.take(schedule.sequences_at(0, len(data)))
            learning: Objective = flow_objective(run, method, first)
        else:
            patterns = {ref.layer.name: run.pattern(ref.layer.name) for ref in refs}
            choosing = Choosing(refs, run.keeper, patterns, run.recipe.rule, run.recipe.sparsity)
            hook = method.hook(choosing, [norms.get(ref.layer.name) for ref in refs])
            learning = objective_of(checkpoint, None if method.distill == "none" else method.distill, 1.0)
        trainer = Trainer(checkpoint, weights, learning, hook)
        Loop(
            trainer, schedule, data, None, run.writer.folder, run.progress, f"training ({method.name})",
            save_every=max(1, method.steps // SAVES),
        ).run()  # fmt: skip
        learning.close()
        return {weight.ref.layer.name: weight.decision() for weight in weights}


def flow_objective(run: Run, method: Ffr, batch: Batch) -> Objective:
    """Relative to the dense model on the first batch."""
    checkpoint = run.checkpoint
    if isinstance(checkpoint, Network):
        readers = {group.target.layer.name: group.target for group in checkpoint.channels.groups}
        flowing = NetworkFlow(checkpoint, (method.length, method.curvature, method.activation), list(readers.values()))
        flowing.measure(batch)
        return flowing
    assert isinstance(checkpoint, Checkpoint)
    groups = [group for n, refs in enumerate(run.refs)
              for group in groups_of(checkpoint.blocks[n], checkpoint.block_paths[n], refs)]  # fmt: skip
    ffns = [group.output for group in groups if group.kind == NEURON and group.output.expert is None]
    made = FlowObjective(checkpoint, (method.length, method.curvature, method.activation), ffns)
    made.measure(checkpoint.device, batch)
    return made


@contextmanager
def loaded(checkpoint: OpenModel) -> Iterator[None]:
    """Within it the whole model is in memory, as the bundle that a run goes on from leaves it."""
    load_whole(checkpoint)
    try:
        yield
    finally:
        put_away(checkpoint)


def whole_weight(run: Run, ref: LinearRef) -> FullWeight:
    own = ref.matrix(run.checkpoint.blocks[ref.layer.block]).float()
    return FullWeight(ref, torch.ones(own.shape, dtype=torch.bool, device=own.device), None, own)


def examples(run: Run) -> Data:
    """The calibration set, of texts in an order that does not depend on how it came. Raises UserError for one that
    predicts nothing."""
    calibration, method = run.recipe.calibration, run.recipe.method
    assert calibration is not None
    assert isinstance(method, TrainedMethod | Ffr)
    name = method.name
    if isinstance(run.checkpoint, Network):
        if isinstance(method, TrainedMethod) and method.distill != "none":
            raise NotForThisModel(
                f"{run.checkpoint.folder} follows the outputs of the unpruned network in any case; leave `distill` out"
            )
        return with_dense_outputs(run.checkpoint, calibration.arrays[SAMPLES], calibration.source)
    if calibration.arrays:
        raise UserError(f"{name} trains on texts: give `calibration` a text, or token ids (.npy)")
    if calibration.ids.shape[1] < 2:
        raise UserError(f"{name} needs calibration sequences of at least 2 tokens; raise `seq_len`")
    ids = in_own_order(calibration.ids)
    return Examples(ids, ids.clone(), calibration.source)


def input_norms(run: Run) -> dict[str, torch.Tensor | None]:
    """Of the inputs of every matrix in the dense model, by name."""
    found = scored_weights(run.checkpoint, run.recipe, run.refs, run.progress)
    norms = {layer.name: norm for layer, _, norm in found}
    for name in (ref.layer.name for block in run.treated for ref in block):
        if norms.get(name) is None:
            run.warn(f"{name}: no input of it was seen while the calibration set ran; scored by magnitude")
    return norms


def schedule_of(run: Run, method: TrainedMethod | Ffr, checkpoint: OpenModel) -> Schedule:
    lr = method.lr if method.lr is not None else default_lr(hidden_of(checkpoint), "full")
    return Schedule(method.steps, lr, method.steps // 20, method.batch, run.recipe.seed)
