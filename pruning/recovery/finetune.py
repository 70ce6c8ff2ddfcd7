"""Recovery after pruning: the weights of a bundle trained again under its masks (methods 19.6).

In: a model, a bundle of its masks (and weights), a text. Out: a new bundle with the same masks, patterns and grids, and
the trained weights as its values, so that whatever reads bundles sees them. The whole model is in memory, and beside it
float32 numbers: for every trained weight the number itself, its gradient and two moments (of adapters the weight, its
gradient, and these four of every adapter's number).

A killed run goes on after its last saved step, to the same bytes; on the CPU whatever the number of threads.
"""

import math
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import LinearRef
from checkpoints.network import Network
from checkpoints.opened import OpenModel
from checkpoints.prunable import parameter_name
from pruning.applied import check_removal, refs_of
from pruning.block_job import Warn
from pruning.bundle_values import BIAS, to_values
from pruning.forward.hidden_states import Progress
from pruning.parallel import one_thread_per_operation
from pruning.recovery.examples import Examples, training_and_held_out
from pruning.recovery.loop import Diverged, Loop
from pruning.recovery.masked_weights import MaskedWeight
from pruning.recovery.network_objective import Samples, with_dense_outputs
from pruning.recovery.plan import Plan
from pruning.recovery.start import check_learns, hidden_of, load_student, objective_of, trained_weights
from pruning.recovery.state import Look, RunState, forget, has_state, plain_looks
from pruning.recovery.trainer import Trainer
from workloads import __version__
from workloads.bundle import BundleHeader, MaskBundle
from workloads.bundle_writer import BundleWriter
from workloads.errors import UserError
from workloads.files import pretty_json, read_json, write_text
from workloads.locking import writing
from workloads.patterns import GONE

HISTORY_FILE = "finetune.json"
SUFFIX = "+finetune"  # behind the method's name


@dataclass
class Session:
    """One run in progress."""

    checkpoint: OpenModel
    masks: MaskBundle
    plan: Plan
    training: Examples | Samples
    held_out: Examples | Samples
    folder: Path
    progress: Progress


def finetune(
    checkpoint: OpenModel, masks: MaskBundle, plan: Plan, out: Path, progress: Progress, warn: Warn
) -> MaskBundle:
    """Writes the trained bundle to `out`; a finished one is returned as it is, an unfinished one continued.

    Raises UserError for masks of another model, a text that does not fit, a loss that is not finite, and folders that
    cannot be written; NotForThisModel for a model that predicts no next token.
    """
    check_trainable(checkpoint, masks, out)
    plan = plan.for_hidden(hidden_of(checkpoint))
    refs = refs_of(checkpoint, masks)
    chosen = plan.selection.names([ref.layer for block in refs for ref in block if ref.layer.name in masks])
    for ref in (ref for block in refs for ref in block if ref.layer.name in chosen):
        check_grid(masks, ref)
    check_factors(masks, plan, chosen)
    training, held_out = data_of(checkpoint, plan, warn)
    header = header_of(checkpoint, masks, plan, training, held_out)
    session = Session(checkpoint, masks, plan, training, held_out, out, progress)
    with writing(out):
        writer = BundleWriter(out, header)
        if not writer.finished:
            fresh = not has_state(out)
            writer.begin()
            try:
                with one_thread_per_operation():
                    weights, state = train(session, refs, chosen)
            except UserError as error:
                if fresh or isinstance(error, Diverged):
                    writer.discard()
                raise
            write_weights(session, writer, weights)
            write_text(out / HISTORY_FILE, pretty_json({"losses": plain_looks(state.looks)}))
        bundle = writer.finish()
        forget(out)
        return bundle


def data_of(checkpoint: OpenModel, plan: Plan, warn: Warn) -> tuple[Examples, Examples] | tuple[Samples, Samples]:
    """What is trained on, and what is held out."""
    if isinstance(checkpoint, Network):
        inputs = checkpoint.family.samples(plan.samples, plan.schedule.seed)
        made = f"made by {checkpoint.family.name}: {checkpoint.family.sample}, seed {plan.schedule.seed}"
        assert isinstance(plan.held_out, float)
        return with_dense_outputs(checkpoint, inputs, made).parted(plan.held_out)
    assert isinstance(checkpoint, Checkpoint)
    most = plan.schedule.steps * plan.schedule.batch
    return training_and_held_out(checkpoint, plan.text, plan.held_out, plan.seq_len, most, warn)


def check_trainable(checkpoint: OpenModel, masks: MaskBundle, out: Path) -> None:
    if out.resolve() == masks.folder.resolve():
        raise UserError(f"`out` and `masks` are both {out}; the trained bundle needs a folder of its own")
    check_removal(checkpoint, masks)
    check_learns(checkpoint)


def check_grid(masks: MaskBundle, ref: LinearRef) -> None:
    entry = masks.entry(ref.layer.name)
    if entry.weight_bits is not None and "codes" not in masks.values(ref.layer.name):
        raise UserError(
            f"{masks.folder}: {entry.name} has {entry.weight_bits} bits, but the bundle does not hold its codes, so no "
            "grid is known to keep to; leave it as it is by `skip`, or quantize by prune with `bits`"
        )


def check_factors(masks: MaskBundle, plan: Plan, chosen: frozenset[str]) -> None:
    """Raises UserError for adapters of products, and for a guide where none is trained."""
    products = sorted(name for name in chosen if masks.entry(name).factors is not None)
    if products and plan.mode == "lora":
        raise UserError(
            f"{products[0]} is a product of factors, of low rank as it is; say `mode=full`, or leave it as it is by "
            "`skip`"
        )
    if plan.guide and not products:
        raise UserError("`guide` is of products of factors, and none is trained; leave it out")


def header_of(
    checkpoint: OpenModel, masks: MaskBundle, plan: Plan, training: Examples | Samples, held_out: Examples | Samples
) -> BundleHeader:
    """The bundle's own, with what was done to it: a list, since a trained bundle may be trained again."""
    own = masks.header
    done = {
        **plan.facts,
        "dtype": str(checkpoint.dtype).removeprefix("torch."),
        "text": training.facts,
        "held_out": held_out.facts,
        "masks_sha256": masks.sha256,
    }
    return replace(
        own,
        method=own.method if own.method.endswith(SUFFIX) else own.method + SUFFIX,
        parameters={**own.parameters, "finetune": [*own.parameters.get("finetune", []), done]},
        model_config={**own.model_config, "weights_sha256": checkpoint.sha256()},
        tool_version=__version__,
    )


def train(session: Session, refs: list[list[LinearRef]], chosen: frozenset[str]) -> tuple[list[MaskedWeight], RunState]:
    """The trained weights, and what was seen on the way."""
    checkpoint, plan = session.checkpoint, session.plan
    session.progress("loading the model", 0, 0)
    load_student(checkpoint, session.masks, plan.recompute)
    weights = trained_weights(checkpoint, session.masks, plan, refs, chosen)
    trainer = Trainer(checkpoint, weights, objective_of(checkpoint, plan.distill, plan.distill_weight))
    loop = Loop(
        trainer, plan.schedule, session.training, session.held_out, session.folder, session.progress, "fine-tuning",
        str(checkpoint.folder), plan.eval_every, plan.save_every, plan.patience, plan.guide,
    )  # fmt: skip
    return weights, loop.run()


def write_weights(session: Session, writer: BundleWriter, weights: list[MaskedWeight]) -> None:
    """The entries of the bundle, a shard a block, trained or as they were."""
    masks, trained = session.masks, {weight.ref.layer.name: weight for weight in weights}
    if masks.is_smaller and writer.removal is None:
        writer.remove(masks.removal)
    for _, entries in groupby(masks.entries, key=lambda entry: entry.block):
        for entry in entries:
            if entry.name in writer.written:
                continue
            if entry.pattern == GONE:
                writer.add_gone(entry.layer, entry.weight_bits, entry.group_size)
                continue
            values = masks.values(entry.name)
            if entry.name in trained:
                weight = trained[entry.name]
                stored = session.checkpoint.stored_dtype(parameter_name(weight.ref))
                values = to_values(weight.decision(), stored) | {k: v for k, v in values.items() if k == BIAS}
            if entry.factors is not None:
                writer.add_factored(entry.layer, entry.factors, values)
                continue
            mask, grid = masks[entry.name], (entry.weight_bits, entry.group_size)
            writer.add(entry.layer, mask, entry.pattern, *grid, values=values, unpruned=entry.unpruned)
        writer.commit()


def read_history(bundle: MaskBundle) -> list[Look]:
    """What was seen on the way to a trained bundle."""
    losses = read_json(bundle.folder / HISTORY_FILE, "history of fine-tuning")["losses"]
    return [Look(row["step"], row["training_loss"] or math.nan, row["held_out_loss"]) for row in losses]
