"""Which inputs of a block's matrices can change places without a gather: those whose features are rows of other
matrices of the block, which then change places too (methods 3.4).

An FFN's neurons are columns of down and rows of gate and up. The features of a value head are rows of v and columns of
o, of all query heads that read it; no rotation and no product with others stands between them. q, k, v, gate and up
read the residual stream, which all blocks share: theirs would need a gather, or one order for the whole model.

Nothing is believed: the block is run with its rows and columns moved, and must give what it gave.
"""

from dataclasses import dataclass

import numpy as np
import torch

from checkpoints.discovery import LinearRef
from pruning.block_job import BlockJob
from pruning.structured.layouts import TOLERANCE
from pruning.structured.units import LAYOUTS, UnitGroup, groups_of
from pruning.training import StandIn
from workloads.removal import NEURON


@dataclass(frozen=True)
class Coupling:
    """The columns of `output`, and the rows of `members`, that change places together. Both are (groups, copies, size)
    int64: within a group all copies get one order of `size`."""

    output: LinearRef
    columns: torch.Tensor
    members: tuple[tuple[LinearRef, torch.Tensor], ...]

    def stacked(self, scores: torch.Tensor) -> list[torch.Tensor]:
        """A group's scores (out * copies, size) of scores (out, in), copies one below the other."""
        return [scores[:, own].flatten(0, 1) for own in self.columns]

    def moves(self, orders: list[torch.Tensor]) -> tuple[torch.Tensor, dict[LinearRef, torch.Tensor]]:
        """(in,) and by member (out,): where each column, each row comes from, of orders (size,) of the groups."""
        columns = moved(self.columns, orders, self.output.layer.in_features)
        return columns, {ref: moved(rows, orders, ref.layer.out_features) for ref, rows in self.members}


def moved(places: torch.Tensor, orders: list[torch.Tensor], length: int) -> torch.Tensor:
    index = torch.arange(length)
    for own, order in zip(places, orders, strict=True):
        index[own] = own[:, order]
    return index


def couplings(job: BlockJob) -> tuple[list[Coupling], dict[str, str]]:
    """(those that hold, by the name of an output why it has none). Experts in one stack are tried out together, as a
    few tokens do not reach all of them."""
    found, lacking = [], dict[str, str]()
    stacks: dict[str, list[int]] = {}
    by_layout = [groups_of(job.block, "", job.refs, layout) for layout in LAYOUTS]
    for n, group in enumerate(by_layout[0]):
        stacks.setdefault(group.output.module_path, []).append(n)
    for stack in stacks.values():
        tried = [[of_group(groups[n]) for n in stack] for groups in by_layout if len(groups) == len(by_layout[0])]
        known = [[made for made in row if made is not None] for row in tried]
        held = next((row for row in known if len(row) == len(stack) and gives_the_same(job, row)), None)
        why = "" if held else "the block gives something else when they change places"
        if len(known[0]) < len(stack):
            why = "the rows of its values stand in a fused matrix"
        elif biased := next((name for made in known[0] for name in biases(job, made)), ""):
            why = f"{biased} has a bias, which a bundle of masks does not hold"
        if why:
            lacking |= {by_layout[0][n].output.layer.name: why for n in stack}
        else:
            found += held or []
    return found, lacking


def biases(job: BlockJob, coupling: Coupling) -> list[str]:
    """The members that have one."""
    found = []
    for ref, _ in coupling.members:
        name = "bias" if ref.parameter == "weight" else f"{ref.parameter}_bias"
        if getattr(job.block.get_submodule(ref.module_path), name, None) is not None:
            found.append(ref.layer.name)
    return found


def of_group(group: UnitGroup) -> Coupling | None:
    """None where the rows of values are not known."""
    columns = torch.arange(group.output.layer.in_features)
    if group.kind == NEURON:
        members = tuple((ref, rows_of(unit)) for ref, unit in group.members)
        return Coupling(group.output, columns.reshape(1, 1, -1), members)
    value = next((ref for ref, _ in group.members if ref.layer.role == "v"), None)
    if value is None:
        return None
    rows = torch.arange(value.layer.out_features).reshape(group.count, 1, -1)
    return Coupling(group.output, columns.reshape(group.count, -1, rows.shape[2]), ((value, rows),))


def rows_of(unit: np.ndarray) -> torch.Tensor:
    """(1, copies, size): the rows of every neuron, of (rows,) the neuron of each."""
    order = np.argsort(unit, kind="stable").reshape(int(unit.max()) + 1, -1)
    return torch.from_numpy(np.ascontiguousarray(order.T))[None]


@torch.no_grad()
def gives_the_same(job: BlockJob, together: list[Coupling]) -> bool:
    """With all orders turned round, on the first sequence."""
    hidden = job.inputs[0][:1]
    before = job.run(hidden)
    moves = [made.moves([torch.arange(made.columns.shape[2]).flip(0)] * len(made.columns)) for made in together]
    touched = [ref for made in together for ref in (made.output, *(ref for ref, _ in made.members))]
    with StandIn(job.block, touched) as stand_in:
        for made, (columns, rows) in zip(together, moves, strict=True):
            stand_in.set(made.output, stand_in.view(made.output)[:, columns].clone())
            for ref, index in rows.items():
                stand_in.set(ref, stand_in.view(ref)[index].clone())
        after = job.run(hidden)
    size = float((before - hidden).abs().max()) if before.shape == hidden.shape else float(before.abs().max())
    return float((before - after).abs().max()) <= TOLERANCE.get(hidden.dtype, 0.03) * size
