"""What was decided of a block: written into it, and into the bundle as its entries."""

import torch
from torch import nn

from checkpoints.discovery import LinearRef
from checkpoints.prunable import parameter_name
from pruning.block_job import Decision
from pruning.bundle_values import factors_of, to_values
from pruning.run.base import Base
from pruning.run.context import Run
from workloads.errors import UserError
from workloads.layers import Layer
from workloads.mask import PackedMask
from workloads.patterns import DENSE, UNSTRUCTURED


@torch.no_grad()
def apply(run: Run, number: int, block: nn.Module, decisions: dict[str, Decision]) -> None:
    """Writes the decisions into the block, rounded as they are stored."""
    for ref in run.treated[number]:
        decision, matrix = decisions[ref.layer.name], ref.matrix(block)
        weight = decision.stored(run.checkpoint.stored_dtype(parameter_name(ref)))
        if weight is not None:
            matrix.copy_(weight)
        matrix.masked_fill_(~decision.keep.to(matrix.device), 0)


def add_all(run: Run, number: int, decisions: dict[str, Decision]) -> None:
    """The entries of a block, in its own order: what was decided, and as it was what was left alone."""
    base, refs = run.recipe.base, {ref.layer.name: ref for ref in run.refs[number]}
    base.begin(run.writer)
    for name in run.names(number):
        if name in decisions:
            add(run, refs[name], decisions[name], base)
        elif name in refs:
            base.copy(run.writer, refs[name].layer)
        elif (gone := base.gone(name)) is not None:
            run.writer.add_gone(gone, *grid_of_gone(run, gone))


def grid_of_gone(run: Run, layer: Layer) -> tuple[int | None, int | None]:
    """(bits, inputs that share a scale) that the layer would have, so that dense baselines are of one kind."""
    quantization, masks = run.recipe.quantization, run.recipe.base.masks
    if quantization is None or masks is None:
        return None, None
    chosen = run.recipe.asked.selection.names([entry.unpruned for entry in masks.entries])
    return (quantization.bits, quantization.group_size or layer.in_features) if layer.name in chosen else (None, None)


def add(run: Run, ref: LinearRef, decision: Decision, base: Base) -> None:
    layer = ref.layer
    dead_rows = int((~decision.keep.any(dim=1)).sum())
    if dead_rows:
        run.warn(f"{layer.name}: {dead_rows} of {layer.out_features} rows lost every weight")
    decision = base.carried(layer.name, decision)
    stored = run.checkpoint.stored_dtype(parameter_name(ref))
    values = to_values(decision, stored)
    weight = decision.stored(stored)
    if weight is not None and not bool(torch.isfinite(weight).all()):
        raise UserError(
            f"{layer.name}: its new weights do not fit into {str(stored).removeprefix('torch.')}; raise the damping or "
            "give more `samples`"
        )
    if decision.factors is not None:
        run.writer.add_factored(layer, factors_of(decision.factors), values)
        return
    promised = run.recipe.method.promises(run.pattern(layer.name))
    pattern = str(promised or UNSTRUCTURED) if run.recipe.method.prunes else base.pattern(layer.name)
    if run.recipe.plan is not None and not run.recipe.plan.choices[layer.name].is_masked:
        pattern = base.pattern(layer.name) if base.keep(layer.name) is not None else DENSE
    grid = decision.quantized.grid if decision.quantized is not None else None
    run.writer.add(
        layer,
        PackedMask.from_dense(decision.keep.cpu().numpy()),
        pattern,
        grid.bits if grid else None,
        grid.width(layer.in_features) if grid else None,
        {**values, **base.bias(layer.name)},
        base.unpruned(layer.name),
    )
