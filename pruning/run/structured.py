"""The driver of structured methods: one pass scores the units of every block, then it is decided what goes (or parts
are tried out one by one, pruning/run/elimination.py), then the bundle is written, block by block.

A method scores the dense model, or (`propagates`) what the pruned blocks before a block produce; then its units are
decided at once, by their scores or (`searches`) by the loss of the whole model without them; then (`reforms`) a second
pass gives what stays new weights. After every block its scores and the hidden states are on disk, so a killed run
continues there, to identical bytes.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import nn

from checkpoints.checkpoint import Checkpoint
from checkpoints.network import Network
from pruning.evidence.gradients import read_gradients
from pruning.evidence.needs import GRADIENTS, Need
from pruning.families import family_of
from pruning.forward.blockwise import BlockwiseModel
from pruning.forward.walk import Walk
from pruning.methods.structured.method import StructuredMethod
from pruning.parallel import ordered_map
from pruning.run.context import Run
from pruning.run.elimination import Elimination, drop_rounds
from pruning.run.gradients import drop_gradients, gather_gradients
from pruning.run.over_blocks import Tensors, over_blocks
from pruning.run.reform import reform_blocks, reformed_file, samples_of, take_out
from pruning.run.smaller_entries import scores_file, write_blocks
from pruning.structured.choice import check_step, kept_units, scored
from pruning.structured.evidence import IMPORTANCES, BlockEvidence, observe
from pruning.structured.held_apart import held_apart
from pruning.structured.layouts import Groups
from pruning.structured.masked_model import MaskedModel, check_has_loss
from pruning.structured.masked_network import MaskedNetwork
from pruning.structured.problem import Kept, UnitProblem
from pruning.structured.scores import ScoredBlock, as_scored
from pruning.structured.units import UnitGroup, groups_of
from workloads.errors import NotForThisModel, UserError
from workloads.removal import NEURON, WORDS, Cut, Removal
from workloads.removals_in_turn import in_turn, second_of

NEAR = 0.05  # of what was asked for: nobody is told


def prune_structured(run: Run) -> None:
    """Raises NotForThisModel for units that the model does not have or cannot lose."""
    method = run.recipe.method
    assert isinstance(method, StructuredMethod)
    if run.checkpoint.shared:
        raise NotForThisModel(
            f"{run.checkpoint.folder}: blocks share matrices, so none of them can lose units alone; prune with masks"
        )
    method.check_blocks(len(run.refs), run.recipe.sparsity)
    if isinstance(run.checkpoint, Checkpoint) and NEURON in method.kinds:
        check_multiples(run, run.checkpoint)
    with torch.no_grad():
        family = family_of(run.checkpoint)
        model, probe = family.walk(run.checkpoint), family.probe(run.checkpoint)
        states = model.embed(probe)
        layouts = family.couplings(model, method.kinds, states)
        before = run.recipe.base.removal
        if run.writer.removal is None:
            try:
                asked = searchable(run, method, model) if method.searches or method.tries else None
                if method.tries:
                    assert asked is not None
                    run.writer.begin()
                    removal = Elimination(run, method, asked, states).find()
                    run.checkpoint.release(run.checkpoint.model)
                else:
                    scoring, judging = split_calibration(run, method)
                    blocks, kept = score_blocks(scoring, method, model, layouts)
                    removal = decide(run, method, blocks, kept, judging)
            except UserError:  # nothing of it would help another try
                run.writer.discard()
                raise
            if removal.takes_nothing and run.recipe.sparsity > 0:
                run.warn(
                    f"{method.name}: nothing goes: a sparsity of {run.recipe.sparsity:.1%} is nearer to none than to "
                    "the least that could go"
                )
            run.writer.remove(in_turn(before, removal))
        assert run.writer.removal is not None
        removal = second_of(before, run.writer.removal)
        drop_gradients(run)
        drop_rounds(run.writer.folder, len(run.refs))
        if method.reforms:
            reform_blocks(run, method, layouts, removal)
        write_blocks(run, method, layouts, removal)
    for number in range(len(run.refs)):
        scores_file(run, number).unlink(missing_ok=True)
        reformed_file(run, number).unlink(missing_ok=True)
    search_file(run).unlink(missing_ok=True)


def check_multiples(run: Run, checkpoint: Checkpoint) -> None:
    """Before anything is run. Raises NotForThisModel for multiples that do not fit an FFN."""
    for number, refs in enumerate(run.refs):
        for group in groups_of(checkpoint.blocks[number], checkpoint.block_paths[number], refs):
            if group.kind == NEURON:
                check_step(group, run.recipe.multiple_of)


def search_file(run: Run) -> Path:
    return run.writer.folder / "search-00000.safetensors"


def score_blocks(run: Run, method: StructuredMethod, model: Walk, layouts: Groups) -> tuple[list[ScoredBlock], Kept]:
    """Every block's scores, and what is decided already where the method propagates."""
    blocks: list[ScoredBlock] = []
    kept: Kept = {}
    absent = run.recipe.base.removal.blocks
    run.writer.begin()
    gather_gradients(run, model)

    def decided(found: ScoredBlock) -> Kept:
        wanted = method.keep([found], run.recipe.sparsity, run.recipe.multiple_of)
        return kept_units(scored([found]), wanted, run.recipe.multiple_of)

    def step(number: int, block: nn.Module, inputs: list[torch.Tensor]) -> tuple[Tensors, list[torch.Tensor]]:
        if number in absent:
            return {}, inputs
        groups = layouts.groups(number, block, run.refs[number])
        tensors, after, evidence = score_block(run, method, model, number, block, groups, inputs)
        if method.propagates and inputs:
            tensors |= take_out(run, method, block, groups, decided(as_scored(number, groups, tensors)), evidence)
            after = list(ordered_map(partial(model.run, number), inputs))
        return tensors, after

    for number, block, tensors in over_blocks(run, model, "scoring units", scores_file, step):
        if number in absent:
            continue
        found = as_scored(number, layouts.groups(number, block, run.refs[number]), tensors)
        blocks.append(found)
        if method.propagates:
            kept |= decided(found)
    missing = layouts.kinds - {group.kind for block in blocks for group in block.groups}
    if missing:
        words = " and ".join(WORDS[kind] for kind in sorted(missing))
        raise NotForThisModel(f"{run.checkpoint.folder}: its blocks have no {words} that are known; prune with masks")
    return blocks, kept


def gradients_of(run: Run, number: int, groups: list[UnitGroup]) -> dict[str, dict[str, torch.Tensor]]:
    """As `read_gradients`, of the block and, where units reach into others, of these."""
    found = read_gradients(run.writer.folder, number)
    for other in sorted({ref.layer.block for group in groups for ref, _ in group.members} - {number}):
        for which, own in read_gradients(run.writer.folder, other).items():
            found.setdefault(which, {}).update(own)
    return found


def score_block(
    run: Run,
    method: StructuredMethod,
    model: Walk,
    number: int,
    block: nn.Module,
    groups: list[UnitGroup],
    inputs: list[torch.Tensor],
) -> tuple[dict[str, torch.Tensor], list[torch.Tensor], BlockEvidence]:
    """(the tensors that are kept of a block, its outputs, what was seen)."""
    outputs = [group.output for group in groups]
    evidence, after = observe(
        block, partial(model.run, number), inputs, outputs, samples_of(run),
        Need.HESSIAN in method.needs, method.wants_released_fluctuation,
    )  # fmt: skip
    if run.recipe.needs & GRADIENTS:
        evidence.gradients = gradients_of(run, number, groups)
    tensors = {
        "importance": torch.tensor([evidence.importance[name] for name in IMPORTANCES], dtype=torch.float64),
        "tokens": torch.tensor([evidence.tokens]),
    }
    for group in groups:
        weights = {ref.layer.name: ref.matrix(block).float() for ref, _ in group.members}
        weights[group.output.layer.name] = group.output.matrix(block).float()
        score = method.scores(group, weights, evidence)
        if len(score) != group.count:
            raise NotForThisModel(
                f"{group.module}: {method.name} scores neurons of one input each, these have {group.features}; use "
                "another structured method"
            )
        if not bool(torch.isfinite(score).all()):
            raise UserError(
                f"{group.module}: a score is NaN or Inf (weights or calibration activations overflow); use "
                "`dtype=float32`"
            )
        tensors[f"score|{group.key}"] = score
        tensors[f"mean|{group.output.layer.name}"] = evidence.mean(
            group.output.layer.name, group.output.layer.in_features
        )
        if method.fills:
            tensors[f"hessian|{group.output.layer.name}"] = evidence.hessian(group.output.layer.name)
        if evidence.misses(group.output.layer.name):
            run.warn(f"{group.output.layer.name}: no calibration token reached it; its units go first")
    return tensors, after, evidence


def split_calibration(run: Run, method: StructuredMethod) -> tuple[Run, torch.Tensor]:
    """(the run whose calibration scores units, the token ids or samples by which the method judges them)."""
    calibration = run.recipe.calibration
    if calibration is None or not method.searches:
        return run, torch.empty(0)
    apart = method.held_apart(len(calibration.ids))
    if not apart:
        return run, calibration.ids
    if apart >= len(calibration.ids):
        raise UserError(
            f"{method.name} judges by calibration samples that score no unit, {apart} of {len(calibration.ids)}; "
            "give more `samples`"
        )
    scoring, judging = held_apart(calibration.ids, apart)
    arrays = dict.fromkeys(calibration.arrays, scoring)  # of a network, which alone searches with arrays: one
    left = replace(calibration, ids=scoring, arrays=arrays)
    return replace(run, recipe=replace(run.recipe, calibration=left)), judging


def decide(run: Run, method: StructuredMethod, blocks: list[ScoredBlock], kept: Kept, judging: torch.Tensor) -> Removal:
    gone = method.gone(blocks, run.recipe.sparsity)
    if len(gone) == len(blocks):
        raise UserError(f"all {len(blocks)} blocks would go; lower `sparsity`")
    if not method.propagates:
        wanted = method.keep(blocks, run.recipe.sparsity, run.recipe.multiple_of)
        kept = kept_units(scored(blocks), wanted, run.recipe.multiple_of)
    groups = [group for block in blocks for group in block.groups if block.number not in gone]
    if groups:
        say_what_is_missed(run, groups, kept)
    if method.searches and not all(some.all() for some in kept.values()):
        kept = search(run, method, blocks, kept, judging)
        gone |= {b.number for b in blocks if b.groups and not any(kept[group.key].any() for group in b.groups)}
    return removal_of([block for block in blocks if block.number not in gone], kept, gone)


def say_what_is_missed(run: Run, groups: list[UnitGroup], kept: Kept) -> None:
    """Warns where units are too few or multiples too large for the sparsity that was asked for."""
    whole = sum(group.count * group.unit_weights for group in groups)
    left = sum(int(kept[group.key].sum()) * group.unit_weights for group in groups)
    asked, found = run.recipe.sparsity, 1 - left / whole
    if abs(found - asked) > NEAR and found > 0:
        of = f" in multiples of {run.recipe.multiple_of}" if run.recipe.multiple_of > 1 else ""
        run.warn(
            f"asked for {asked:.1%} of the units' weights, {found:.1%} go: they go in whole numbers{of}, and every "
            "attention and FFN keeps at least one"
        )


def searchable(run: Run, method: StructuredMethod, model: Walk) -> BlockwiseModel | None:
    """The language model, where it has a loss of next tokens; None: a network, judged by its outputs. Raises UserError
    for a model and for calibration data without."""
    calibration = run.recipe.calibration
    assert calibration is not None
    if not isinstance(model, BlockwiseModel):
        if method.drops_blocks:
            raise NotForThisModel(
                f"{run.checkpoint.folder}: its units are no blocks that could be left out; leave `depth` of "
                f"{method.name} at 0"
            )
        return None
    check_has_loss(model)
    if calibration.arrays:
        raise UserError(
            f"{method.name} goes by the loss of next tokens, calibration {calibration.source} holds "
            f"{', '.join(calibration.arrays)}; give a text, or token ids (.npy)"
        )
    if calibration.ids.shape[1] < 2:
        raise UserError(f"{method.name} needs calibration sequences of at least 2 tokens; raise `seq_len`")
    return model


def search(run: Run, method: StructuredMethod, blocks: list[ScoredBlock], start: Kept, judging: torch.Tensor) -> Kept:
    recipe, groups = run.recipe, [group for block in blocks for group in block.groups]
    judge = (
        MaskedNetwork(run.checkpoint, groups, judging)
        if isinstance(run.checkpoint, Network)
        else MaskedModel(cast(Checkpoint, run.checkpoint), groups)
    )
    with judge as masked:
        return method.search(
            UnitProblem(
                blocks, start, recipe.sparsity, recipe.multiple_of, recipe.seed, judging, masked,
                search_file(run), run.progress, run.warn,
            )
        )  # fmt: skip


def removal_of(blocks: list[ScoredBlock], kept: Kept, gone: frozenset[int] = frozenset()) -> Removal:
    groups = [group for block in blocks for group in block.groups]
    units = tuple(group.units(kept[group.key]) for group in groups)
    cuts: dict[str, Cut] = {}
    for group in groups:
        for name, cut in group.cuts(kept[group.key]) if not kept[group.key].all() else ():
            before = cuts.get(name, cut)  # a matrix between two groups loses rows to one and columns to the other
            cuts[name] = Cut(before.rows & cut.rows, before.cols & cut.cols)
    return Removal(gone, units, cuts)
