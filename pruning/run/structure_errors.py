"""The errors of structures on the dense model: of every block what it costs to keep so many kv groups or FFN neurons,
for every count from one sweep each (methods 7.7), and what it costs to do without the block.

    E(k)    ||X (W - W')^T||^2 / ||X W^T||^2 of o_proj or down_proj when k units are kept, W' the best weights on them
    times   the divergence of the model's predictions at half of the units, alone, over E there (as error_table's probe)
    gone    the divergence without what the block adds: o_proj and down_proj at 0
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.prunable import all_refs
from pruning.block_job import Decision
from pruning.data.calibration import Calibration
from pruning.families import family_of
from pruning.forward.blockwise import BlockwiseModel
from pruning.forward.hidden_states import Progress, micro_batches
from pruning.parallel import one_thread_per_operation
from pruning.run.replace_one import SEQUENCES
from pruning.run.stitched import Database, Stitched
from pruning.second_order.groups import adjacent, sweep
from pruning.structured.evidence import observe
from pruning.structured.layouts import Layouts
from pruning.structured.units import UnitGroup
from workloads.errors import NotForThisModel
from workloads.removal import NEURON

DAMP, AT_ONCE = 0.01, 32  # as obs-sp
HALF, NOTHING = 1, 2  # places in the database


@dataclass(frozen=True)
class Group:
    """errors (count + 1,) by how many are kept, 0 where all are; weights: of all its units, with their rows; `layers`:
    names of its matrices."""

    kind: str
    block: int
    key: str
    errors: np.ndarray
    weights: int
    layers: tuple[str, ...]

    @property
    def count(self) -> int:
        return len(self.errors) - 1


@dataclass(frozen=True)
class StructureErrors:
    """groups: at most one of a kind and block; gone: by block."""

    groups: tuple[Group, ...]
    gone: dict[int, float]

    def group(self, kind: str, block: int) -> Group | None:
        return next((one for one in self.groups if (one.kind, one.block) == (kind, block)), None)


def structure_errors(
    opened: Callable[[], Checkpoint], calibration: Calibration, kinds: frozenset[str], progress: Progress
) -> StructureErrors:
    """`kinds` of units (workloads/removal.py). Raises NotForThisModel for units that the model cannot lose, experts,
    and a model that predicts no next token."""
    checkpoint = opened()
    found, held = _sweeps(checkpoint, calibration.ids, kinds, progress)
    with one_thread_per_operation():
        stitched = Stitched(opened(), held, calibration.ids[:SEQUENCES])
        groups = []
        for number, (group, errors) in enumerate(found):
            progress("errors of structures in the predictions", number, len(found))
            name, half = group.output.layer.name, errors[group.count // 2]
            factor = stitched.loss({name: HALF}) / half if half > 0 else 1.0
            stitched.put({name: 0})
            layers = (*(ref.layer.name for ref, _ in group.members), name)
            weights = group.unit_weights * group.count
            groups.append(Group(group.kind, group.block, group.key, errors * factor, weights, layers))
        outputs: dict[int, dict[str, int]] = {}
        for group, _ in found:
            outputs.setdefault(group.block, {})[group.output.layer.name] = NOTHING
        gone = {}
        for block, places in outputs.items():
            gone[block] = stitched.loss(places)
            stitched.put(dict.fromkeys(places, 0))
    return StructureErrors(tuple(groups), gone)


def _sweeps(
    checkpoint: Checkpoint, ids: torch.Tensor, kinds: frozenset[str], progress: Progress
) -> tuple[list[tuple[UnitGroup, np.ndarray]], Database]:
    """(every group and its output errors by how many are kept; its output at half of them, and without any)."""
    family = family_of(checkpoint)
    model = family.walk(checkpoint)
    assert isinstance(model, BlockwiseModel)
    refs, held, found = all_refs(checkpoint), Database(), list[tuple[UnitGroup, np.ndarray]]()
    with torch.no_grad(), one_thread_per_operation():
        layouts = Layouts(model, kinds, model.embed(family.probe(checkpoint)))
        batches = micro_batches(ids)
        hidden = [model.embed(batch) for batch in batches]
        checkpoint.release(checkpoint.model)
        for number in range(len(refs)):
            progress("errors of structures", number, len(refs))
            block = checkpoint.load_block(number)
            hidden = model.advance_all(number, batches, hidden)
            groups = layouts.groups(number, block, refs[number])
            if len({group.kind for group in groups}) < len(groups):
                raise NotForThisModel("blocks with several FFNs (experts) have no plan of their units; use masks")
            outputs = [group.output for group in groups]
            evidence, hidden = observe(block, partial(model.run, number), hidden, outputs, len(ids), hessian=True)
            for group in groups:
                name, weight = group.output.layer.name, group.output.matrix(block).float()
                half, parts = group.count // 2, adjacent(weight.shape[1], group.features)
                at_once = AT_ONCE if group.kind == NEURON else 1
                swept = sweep(weight, evidence.hessian(name), parts, (half,), DAMP, at_once)
                errors = np.r_[swept.errors.numpy()[::-1], 0.0]  # none kept first
                found.append((group, errors / errors[0] if errors[0] > 0 else errors))
                for place, made in ((HALF, swept.snapshots[half]), (NOTHING, torch.zeros_like(weight))):
                    held.add(name, place, Decision(made != 0, made), checkpoint.model.dtype)
            checkpoint.release(block)
    return found, held
