"""What moved between two results: by how much, and why.

Lines of both are matched by KEYS. Why is told from the rows themselves: the parts of the time that grew or shrank, in
shares of the time before; then what went into them that is another (masks, descriptions of targets, settings of the
evaluation, layers, seeds, versions)."""

import numpy as np
import pandas as pd

from reports.tables.layers import headline_table
from reports.tables.parts import PARTS, with_parts
from reports.tables.sums import KEYS, checked, counted, groups

BEFORE, AFTER = "before", "after"
VALUES = ("speedup", "latency_us", "energy_pj", "perplexity")
_LEAST = 1e-9  # a smaller relative change is none
_TOLD = 0.001  # of the time before: the change of a part that is told

Sides = tuple[pd.DataFrame, pd.DataFrame]


def moved_table(rows: Sides, quality: tuple[pd.DataFrame | None, pd.DataFrame | None]) -> pd.DataFrame:
    """One line per KEYS of either of (before, after): "before@speedup", "after@speedup" and so for each of VALUES;
    `time_change` and `perplexity_change`, after / before - 1; `moved`: whether any of VALUES did; `why`."""
    heads = [headline_table(side, known).set_index(KEYS) for side, known in zip(rows, quality, strict=True)]
    sides = [_by_key(side) for side in rows]
    found = [dict(zip(map(_plain, head.index), head.to_dict("records"), strict=True)) for head in heads]
    lines = []
    for key in dict.fromkeys([*found[0], *found[1]]):
        old, new = (side.get(key) for side in found)
        line = dict(zip(KEYS, key, strict=True))
        for name, values in ((BEFORE, old), (AFTER, new)):
            line |= {f"{name}@{column}": np.nan if values is None else values[column] for column in VALUES}
        if old is None or new is None:
            line |= {"moved": True, "why": f"only {AFTER if old is None else BEFORE}"}
        else:
            line |= _compared(old, new) | {"why": _why(sides[0][key], sides[1][key], old, new)}
        lines.append(line)
    return pd.DataFrame(lines)


def _plain(key: tuple) -> tuple:
    """Missing values as None: they equal each other."""
    return tuple(None if pd.isna(value) else value for value in key)


def _by_key(rows: pd.DataFrame) -> dict[tuple, pd.DataFrame]:
    return {_plain(tuple(key.values())): part for key, part in groups(with_parts(checked(rows)), KEYS)}


def _compared(old: dict, new: dict) -> dict:
    changes = {name: _change(old[name], new[name]) for name in VALUES}
    moved = any(abs(change) > _LEAST for change in changes.values() if not np.isnan(change))
    moved |= any(pd.isna(old[name]) != pd.isna(new[name]) for name in VALUES)
    return {"time_change": changes["latency_us"], "perplexity_change": changes["perplexity"], "moved": moved}


def _change(old: float, new: float) -> float:
    return float("nan") if pd.isna(old) or pd.isna(new) or not old else float(new) / float(old) - 1


def _why(before: pd.DataFrame, after: pd.DataFrame, old: dict, new: dict) -> str:
    return "; ".join([*_parts(before, after), *_inputs(before, after), *_evaluations(old, new)])


def _parts(before: pd.DataFrame, after: pd.DataFrame) -> list[str]:
    """The parts of the time that moved, the most first; and the unpruned model's time."""
    sides = [counted(side) for side in (before, after)]
    seeds = [max(1, side["seed"].nunique(dropna=False)) for side in sides]

    def total(side: int, column: str) -> float:
        values = sides[side][column].astype("float64")
        return float(values.sum()) / seeds[side] if values.notna().all() and len(values) else float("nan")

    whole, dense = total(0, "cycles"), [total(side, "dense_latency_us") for side in (0, 1)]
    moved = {name: (total(1, column) - total(0, column)) / whole for column, name in PARTS.items()}
    told = sorted(
        ((name, share) for name, share in moved.items() if abs(share) > _TOLD), key=lambda item: -abs(item[1])
    )
    said = [", ".join(f"{name} {100 * share:+.1f} %" for name, share in told) + " of the time"] if told else []
    change = _change(dense[0], dense[1])
    return said + ([f"dense time {100 * change:+.1f} %"] if abs(change) > _TOLD else [])


def _inputs(before: pd.DataFrame, after: pd.DataFrame) -> list[str]:
    by_layer = [side.set_index(["layer", "seed"]) for side in (before, after)]
    shared = by_layer[0].index.intersection(by_layer[1].index)
    said = []
    for name, what in (("mask_sha256", "masks"), ("spec_sha256", "descriptions of the target"), ("kernel", "kernels")):
        old, new = (side.loc[shared, name].fillna("").to_numpy() for side in by_layer)
        if differ := int((old != new).sum()):
            said.append(f"other {what} in {differ:,} of {len(shared):,} layers")
    alone = [len(side.index.difference(shared)) for side in by_layer]
    said += [f"{count:,} layers only {name}" for count, name in zip(alone, (BEFORE, AFTER), strict=True) if count]
    barred = [int((~side["feasible"]).sum()) for side in (before, after)]
    said += [f"{barred[0]:,} layers could not run, now {barred[1]:,}"] if barred[0] != barred[1] else []
    versions = [", ".join(dict.fromkeys(side["tool_version"])) for side in (before, after)]
    return said + ([f"prunesim {versions[0]}, now {versions[1]}"] if versions[0] != versions[1] else [])


def _evaluations(old: dict, new: dict) -> list[str]:
    said = []
    if old["evaluation_text"] != new["evaluation_text"]:
        said.append(f"perplexity on {old['evaluation_text'] or 'nothing'}, now {new['evaluation_text'] or 'nothing'}")
    change = _change(old["dense_perplexity"], new["dense_perplexity"])
    return said + ([f"dense perplexity {100 * change:+.1f} %"] if abs(change) > _LEAST else [])
