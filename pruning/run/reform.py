"""New weights for what is left when units go: a pass over the blocks, each on what the pruned ones before produce."""

from functools import partial
from pathlib import Path

import torch
from torch import nn

from checkpoints.prunable import parameter_name
from pruning.evidence.needs import Need
from pruning.families import family_of
from pruning.methods.structured.method import StructuredMethod
from pruning.parallel import ordered_map
from pruning.run.context import Run
from pruning.run.over_blocks import Tensors, over_blocks
from pruning.structured.evidence import BlockEvidence, observe
from pruning.structured.layouts import Groups
from pruning.structured.problem import Kept
from pruning.structured.units import UnitGroup
from workloads.errors import UserError
from workloads.removal import Removal


def reformed_file(run: Run, number: int) -> Path:
    return run.writer.folder / f"reformed-{number:05d}.safetensors"


def reform_blocks(run: Run, method: StructuredMethod, layouts: Groups, removal: Removal) -> None:
    """Leaves the new weights of every block on disk, as `take_out` names them; all calibration sequences count."""
    model = family_of(run.checkpoint).walk(run.checkpoint)
    kept = {each.key: each.kept for each in removal.units}

    def step(number: int, block: nn.Module, inputs: list[torch.Tensor]) -> tuple[Tensors, list[torch.Tensor]]:
        if number in removal.blocks:
            return {}, inputs
        groups = layouts.groups(number, block, run.refs[number])
        evidence, _ = observe(
            block, partial(model.run, number), inputs, [group.output for group in groups], samples_of(run),
            Need.HESSIAN in method.needs,
        )  # fmt: skip
        made = take_out(run, method, block, groups, kept, evidence)
        return made, list(ordered_map(partial(model.run, number), inputs))

    for _ in over_blocks(run, model, "reforming", reformed_file, step):
        pass


def take_out(
    run: Run, method: StructuredMethod, block: nn.Module, groups: list[UnitGroup], kept: Kept, evidence: BlockEvidence
) -> Tensors:
    """The block with the features of what goes at zero, and the method's new weights in its outputs, rounded as they
    are stored; those weights without the columns that go, as "weight|NAME"."""
    made = {}
    for group in groups:
        stays, matrix = torch.from_numpy(kept[group.key]), group.output.matrix(block)
        columns = stays.repeat_interleave(group.features)
        weight = None if bool(stays.all()) else method.update(group, matrix.float(), evidence, stays)
        if weight is not None:
            stored = weight.to(run.checkpoint.stored_dtype(parameter_name(group.output)))
            if not bool(torch.isfinite(stored).all()):
                raise UserError(f"{group.output.layer.name}: its new weights are not finite; raise the damping")
            matrix.copy_(stored)
            made[f"weight|{group.output.layer.name}"] = stored[:, columns].contiguous()
        matrix[:, ~columns] = 0
    return made


def samples_of(run: Run) -> int:
    return len(run.recipe.calibration.ids) if run.recipe.calibration is not None else 0
