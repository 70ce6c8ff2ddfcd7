"""Where cycles go, of masked and of unpruned layers alike: ideal compute, imbalance, waiting for DRAM and for buffers;
and where energy goes.

The unpruned layer's ideal cycles are the masked one's / its density: ideal cycles are kept MACs / MAC units, and all
weights of the layer are kept unpruned. What its array needs beyond them is its imbalance; a target that reports no
compute cycles for it has worked all of them."""

import numpy as np
import pandas as pd

from reports.tables.sums import CONFIG, DENSE_ENERGY_PARTS, ENERGY_PARTS, MASKS, counted, no_baseline, sums_by
from reports.words.naming import run_text
from reports.words.present import cell
from workloads.layers import role_rank
from workloads.rows import kept_weights, unpruned_weights

PARTS = {
    "ideal_cycles": "ideal compute",
    "imbalance_cycles": "imbalance",
    "memory_stall_cycles": "DRAM stall",
    "buffer_stall_cycles": "buffer stall",
}
DENSE_PARTS = {
    "dense_ideal_cycles": "ideal compute",
    "dense_imbalance_cycles": "imbalance",
    "dense_stall_cycles": "DRAM stall",
}
ENERGIES = dict(zip(ENERGY_PARTS, ("MACs", "idle MAC slots", "registers", "buffers", "DRAM"), strict=True))
DENSE_ENERGIES = dict(zip(DENSE_ENERGY_PARTS, ENERGIES.values(), strict=True))
NOT_SPLIT = {"dense_energy_pj": "dense, not split"}  # rows of earlier versions
DENSE = "dense"


def with_parts(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with PARTS and DENSE_PARTS and `density`, kept weights / weights of the unpruned layer, 0..1. The
    unpruned layer's waiting is not split: that for buffers is in its DRAM stall."""
    buffers = rows["buffer_stall_cycles"].fillna(0)
    dense_compute = rows["dense_compute_cycles"].fillna(rows["dense_cycles"]).astype("float64")
    density = kept_weights(rows) / unpruned_weights(rows)
    ideal = (rows["ideal_cycles"].astype("float64") / density.where(density > 0)).fillna(dense_compute)
    ideal = np.minimum(ideal, dense_compute)
    return rows.assign(
        density=density,
        buffer_stall_cycles=buffers,
        memory_stall_cycles=rows["stall_cycles"] - buffers,
        dense_compute_cycles=dense_compute,
        dense_ideal_cycles=ideal,
        dense_imbalance_cycles=dense_compute - ideal,
        dense_stall_cycles=rows["dense_cycles"].astype("float64") - dense_compute,
    )


def part_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Cycles, of checked rows of one CONFIG: one line per role, run (the unpruned model's is "dense") and part.

    amount: mean over layers and seeds; begin: that of the parts before it; whole: that of all parts; ratio: the speedup
    of the role and run; said: the run and its ratio; ran, out: layers counted and left out. A part that is 0 has no
    line; roles of which no layer is counted are absent."""
    return _parts(with_parts(rows), PARTS, DENSE_PARTS, "speedup")


def energy_table(rows: pd.DataFrame) -> pd.DataFrame:
    """As `part_table`, in pJ, of the layers whose energy is known."""
    known = rows["energy_pj"].notna() & (rows["dense_energy_pj"].notna() | no_baseline(rows))
    split = rows.loc[known & rows["dense_energy_pj"].notna(), DENSE_ENERGY_PARTS].notna().all(axis=None)
    dense = DENSE_ENERGIES if split else NOT_SPLIT
    return _parts(rows.assign(feasible=rows["feasible"] & known), ENERGIES, dense, "energy_ratio")


def _parts(rows: pd.DataFrame, parts: dict[str, str], dense: dict[str, str], ratio: str) -> pd.DataFrame:
    used = counted(rows)
    keys = [*CONFIG, *MASKS, "role"]
    if used.empty:
        return pd.DataFrame()
    found = sums_by(rows, keys).set_index(keys)
    found.index = found.index.to_flat_index()
    runs = used.groupby(keys, sort=False, dropna=False)[list(parts)].mean().fillna(0.0)
    lines: list[dict] = []
    for key, of_run, amounts in zip(found.index, found.to_dict("records"), _aligned(runs, found), strict=True):
        named = dict(zip(keys, key, strict=True))
        spread = of_run[f"{ratio}_spread"]
        said = "" if pd.isna(of_run[ratio]) else cell(ratio, of_run[ratio], spread).text
        shared = {**named, "run": run_text(named), "ratio": of_run[ratio], "ran": of_run["layers"]}
        shared |= {"said": f"{run_text(named)} {said}".strip(), "out": of_run["infeasible_layers"]}
        lines += _stacked(dict(zip(parts.values(), amounts, strict=True)), shared)
    return pd.concat([_dense_parts(used, dense), pd.DataFrame(lines)], ignore_index=True).pipe(_by_role)


def _aligned(runs: pd.DataFrame, found: pd.DataFrame) -> list[list[float]]:
    """The means of each line of `found`; zeros where nothing of it is counted."""
    means = dict(zip(runs.index.to_flat_index().map(str), runs.to_numpy().tolist(), strict=True))
    return [means.get(str(key), [0.0] * runs.shape[1]) for key in found.index]


def _dense_parts(used: pd.DataFrame, dense: dict[str, str]) -> pd.DataFrame:
    layers = used.drop_duplicates("layer")
    whole = layers[list(dense)].notna().all(axis=1).groupby([layers["role"]]).transform("all")
    means = layers[whole].groupby("role", sort=False)[list(dense)].mean()
    place = {name: used[name].iloc[0] for name in CONFIG}
    lines: list[dict] = []
    for role, amounts in zip(means.index, means.to_numpy().tolist(), strict=True):
        shared = {**place, "role": role, "run": DENSE, "said": DENSE, "ratio": np.nan, "ran": np.nan, "out": np.nan}
        lines += _stacked(dict(zip(dense.values(), amounts, strict=True)), shared)
    return pd.DataFrame(lines)


def _stacked(amounts: dict[str, float], shared: dict) -> list[dict]:
    lines: list[dict] = []
    begin = 0.0
    for name, amount in amounts.items():
        if amount > 0:
            lines.append({**shared, "part": name, "amount": amount, "begin": begin})
            begin += amount
    return [{**line, "whole": begin} for line in lines]


def _by_role(lines: pd.DataFrame) -> pd.DataFrame:
    if lines.empty:
        return lines
    return lines.assign(_rank=lines["role"].map(role_rank)).sort_values("_rank", kind="stable").drop(columns="_rank")


def alike(ratios: pd.Series) -> bool:
    """Whether they all say the same: no more than 2 % apart, and several."""
    known = ratios[np.isfinite(ratios)]
    return len(known) > 1 and bool(known.max() <= 1.02 * known.min())
