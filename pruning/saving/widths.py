"""The widths that a removal leaves, and the removal that takes less out, so that all blocks have one width."""

from collections.abc import Iterable

import numpy as np

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import LinearRef, find_refs
from pruning.structured.units import LAYOUTS, UnitGroup, groups_of
from workloads.errors import UserError
from workloads.removal import Cut, Removal, Units

EXPERT_GRANULE = 8  # neurons: torch's grouped product, which transformers runs experts with, wants rows of n x 16 bytes

Widths = dict[tuple[str, int], set[int]]  # (kind of units, their number before) -> numbers that are left in the blocks


def widths(removal: Removal) -> Widths:
    found: Widths = {}
    for unit in removal.units:
        found.setdefault((unit.kind, len(unit.kept)), set()).add(int(unit.kept.sum()))
    return found


def padded_removal(checkpoint: Checkpoint, removal: Removal, whole: frozenset[str]) -> Removal:
    """Leaves in every block as many units of a kind as in the widest, of the kinds in `whole` all: beside those that
    stay the first ones that do not. Raises UserError if the removal is of another model."""
    wanted = {key: key[1] if key[0] in whole else max(left) for key, left in widths(removal).items()}
    stacked = stacked_experts(checkpoint)
    for unit in removal.units:
        if unit.module in stacked:
            key = unit.kind, len(unit.kept)
            wanted[key] = min(key[1], -(-wanted[key] // EXPERT_GRANULE) * EXPERT_GRANULE)
    units = tuple(
        Units(unit.kind, unit.block, unit.module, _widened(unit.kept, wanted[unit.kind, len(unit.kept)]))
        for unit in removal.units
    )
    before, cuts = _groups(checkpoint, removal), dict[str, Cut]()
    for unit in units:
        if not unit.kept.all():
            cuts |= dict(before[unit.key].cuts(unit.kept))
    return Removal(removal.blocks, units, cuts)


def stacked_experts(checkpoint: Checkpoint) -> frozenset[str]:
    """The modules, as units name them, of experts that lie in one parameter."""
    refs = [ref for block in find_refs(checkpoint.model) for ref in block if ref.expert is not None]
    return frozenset(f"{checkpoint.block_paths[ref.layer.block]}.{ref.module_path}.{ref.expert}" for ref in refs)


def _widened(kept: np.ndarray, width: int) -> np.ndarray:
    more = np.flatnonzero(~kept)[: width - int(kept.sum())]
    widened = kept.copy()
    widened[more] = True
    return widened


def _groups(checkpoint: Checkpoint, removal: Removal) -> dict[str, UnitGroup]:
    """Of every unit key the rows and columns it is. The layout of fused matrices is the one that gives the removal's
    own cuts."""
    refs = find_refs(checkpoint.model)
    found: dict[str, UnitGroup] = {}
    for kind in {unit.kind for unit in removal.units}:
        units = [unit for unit in removal.units if unit.kind == kind]
        layouts = [_by_key(checkpoint, refs, units, layout) for layout in LAYOUTS]
        fitting = [groups for groups in layouts if all(_fits(groups, unit, removal) for unit in units)]
        if not fitting:
            raise UserError(f"{checkpoint.folder}: what was taken out is not of this model; was it another?")
        found |= fitting[0]
    return found


def _by_key(
    checkpoint: Checkpoint, refs: list[list[LinearRef]], units: Iterable[Units], layout: str
) -> dict[str, UnitGroup]:
    found = {}
    for number in sorted({unit.block for unit in units}):
        for group in groups_of(checkpoint.blocks[number], checkpoint.block_paths[number], refs[number], layout):
            found[group.key] = group
    return found


def _fits(groups: dict[str, UnitGroup], unit: Units, removal: Removal) -> bool:
    group = groups.get(unit.key)
    if group is None or group.count != len(unit.kept):
        return False
    cuts = {} if unit.kept.all() else dict(group.cuts(unit.kept))
    return all(
        name in removal.cuts
        and np.array_equal(removal.cuts[name].rows, cut.rows)
        and np.array_equal(removal.cuts[name].cols, cut.cols)
        for name, cut in cuts.items()
    )
