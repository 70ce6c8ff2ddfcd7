"""Two removals, the second of what the first leaves: as one of the whole model, and back."""

import numpy as np

from workloads.removal import Cut, Removal, Units


def in_turn(first: Removal, second: Removal) -> Removal:
    """What both take out of the whole model. `second` is in the sizes that `first` leaves; blocks and sub-layers have
    one name all along, and what goes whole has neither units nor cuts."""
    blocks = first.blocks | second.blocks
    sublayers = {**first.sublayers, **second.sublayers}
    units = {each.key: each for each in first.units}
    units |= {each.key: _units_in_turn(units.get(each.key), each) for each in second.units}
    gone = {key for key, each in units.items() if each.block in blocks or _inside(each.module, sublayers)}
    cuts = dict(first.cuts) | {name: _cut_in_turn(first.cuts.get(name), cut) for name, cut in second.cuts.items()}
    silent = {units[key].module: 0 for key in gone}
    return Removal(
        blocks,
        tuple(sorted((each for key, each in units.items() if key not in gone), key=_place)),
        {name: cut for name, cut in cuts.items() if not _inside(name, silent)},
        sublayers,
    )


def second_of(first: Removal, both: Removal) -> Removal:
    """The removal that makes `both` of what `first` leaves: second_of(a, in_turn(a, b)) is b, with the blocks and
    sub-layers of a among its own, and groups that it leaves whole among its units."""
    before = {each.key: each.kept for each in first.units}
    units = [
        Units(each.kind, each.block, each.module, each.kept[before[each.key]]) if each.key in before else each
        for each in both.units
    ]
    cuts = {}
    for name, cut in both.cuts.items():
        if (own := first.cuts.get(name)) is not None:
            cut = Cut(cut.rows[own.rows], cut.cols[own.cols])
        if not (cut.rows.all() and cut.cols.all()):
            cuts[name] = cut
    return Removal(both.blocks, tuple(units), cuts, both.sublayers)


def _units_in_turn(first: Units | None, second: Units) -> Units:
    if first is None:
        return second
    return Units(second.kind, second.block, second.module, _kept_in_turn(first.kept, second.kept))


def _cut_in_turn(first: Cut | None, second: Cut) -> Cut:
    if first is None:
        return second
    return Cut(_kept_in_turn(first.rows, second.rows), _kept_in_turn(first.cols, second.cols))


def _kept_in_turn(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(count,) bool of (count,) bool and of the same for those that it keeps."""
    kept = first.copy()
    kept[first] = second
    return kept


def _inside(name: str, paths: dict[str, int]) -> bool:
    return any(name == path or name.startswith(f"{path}.") for path in paths)


def _place(units: Units) -> tuple[int, str, str]:
    return units.block, units.kind, units.module
