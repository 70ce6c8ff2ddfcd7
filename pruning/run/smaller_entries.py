"""What a structured run leaves of every matrix, as the bundle's entries: sizes, biases, new weights, and of a bundle
that the run goes on from what that holds."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from checkpoints.discovery import LinearRef
from checkpoints.prunable import parameter_name
from pruning.block_job import Decision
from pruning.bundle_values import BIAS, to_values
from pruning.forward.hidden_states import read_tensors
from pruning.methods.structured.method import StructuredMethod
from pruning.run.context import Run
from pruning.run.reform import reformed_file
from pruning.structured.layouts import Groups
from pruning.structured.scores import ScoredBlock, as_scored
from pruning.structured.units import UnitGroup
from workloads.mask import PackedMask
from workloads.patterns import DENSE, SMALLER
from workloads.removal import Cut, Removal


def scores_file(run: Run, number: int) -> Path:
    return run.writer.folder / f"scores-{number:05d}.safetensors"


def write_blocks(run: Run, method: StructuredMethod, layouts: Groups, removal: Removal) -> None:
    """`removal`: in the sizes that the bundle which the run goes on from leaves."""
    base = run.recipe.base
    for number, refs in enumerate(run.refs):
        run.progress("writing", number, len(run.refs))
        if run.is_written(number):
            continue
        biases: dict[str, np.ndarray] = {}
        weights: Mapping[str, torch.Tensor] = {}
        if method.changes_weights and refs:
            weights = read_weights((reformed_file if method.reforms else scores_file)(run, number))
        if method.compensates and number not in removal.blocks:
            biases = compensations(run, number, layouts, removal)
        here = {ref.layer.name: ref for ref in refs}
        for name in run.names(number):
            ref = here.get(name)
            unpruned = base.unpruned(name) or base.gone(name) or here[name].layer
            if ref is None or (left := removal.left(ref.layer)) is None:
                run.writer.add_gone(unpruned)
                continue
            cut = removal.cuts.get(name)
            values = held(run, ref, cut)
            if name in biases:
                values[BIAS] = biases[name] if cut is None else biases[name][cut.rows]
            if name in weights:
                weight = weights[name] if cut is None else weights[name][cut.rows]  # without its columns already
                made = to_values(Decision(torch.ones_like(weight, dtype=torch.bool), weight), weight.dtype)
                values = {**made, **{kind: value for kind, value in values.items() if kind == BIAS}}
            pattern = DENSE if left.shape == unpruned.shape else SMALLER
            run.writer.add(left, PackedMask.dense(*left.shape), pattern, values=values, unpruned=unpruned)
        run.writer.commit()


def held(run: Run, ref: LinearRef, cut: Cut | None) -> dict[str, np.ndarray]:
    """The weights and the bias of a matrix without what `cut` takes, where they are not the model's own: those that
    the bundle which the run goes on from holds, or that training made."""
    values = run.recipe.base.left_of(ref.layer.name, cut)
    made = None if run.decided is None else run.decided[ref.layer.name]
    if made is None or made.weight is None:
        return values
    weight = made.weight.cpu() if cut is None else made.weight.cpu()[cut.rows][:, cut.cols]
    whole = Decision(torch.ones_like(weight, dtype=torch.bool), weight)
    trained = to_values(whole, run.checkpoint.stored_dtype(parameter_name(ref)))
    return {**trained, **{kind: value for kind, value in values.items() if kind == BIAS}}


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    found = read_tensors(path)
    return {key.removeprefix("weight|"): weight for key, weight in found.items() if key.startswith("weight|")}


def compensations(run: Run, number: int, layouts: Groups, removal: Removal) -> dict[str, np.ndarray]:
    """By the names of a block's outputs of which something goes, their new biases."""
    kept, made = {each.key: each.kept for each in removal.units}, dict[str, np.ndarray]()
    block = run.checkpoint.load_block(number)
    groups = layouts.groups(number, block, run.refs[number])
    found = as_scored(number, groups, read_tensors(scores_file(run, number)))
    for group in groups:
        if not kept[group.key].all():
            made |= compensation(run, block, group, kept[group.key], found)
    run.checkpoint.release(block)
    return made


def compensation(
    run: Run, block: nn.Module, group: UnitGroup, kept: np.ndarray, found: ScoredBlock
) -> dict[str, np.ndarray]:
    """The output's bias with what its removed inputs give on average (methods 7.3); none of experts in a stack."""
    ref = group.output
    if ref.expert is not None:
        run.warn(f"{ref.layer.name}: experts in a stack have no bias to take the mean of what goes")
        return {}
    columns = torch.from_numpy(~kept[group.columns])
    added = ref.matrix(block).double()[:, columns] @ found.means[ref.layer.name][columns]
    bias = getattr(block.get_submodule(ref.module_path), "bias", None)
    return {ref.layer.name: (added + (bias.double() if bias is not None else 0)).float().numpy()}
