"""Sweeps: one target with many settings becomes a table of designs and a Pareto front, not a set of figures each."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from reports.tables.sums import CONFIG, KERNEL, KEYS, MASKS, groups, known, sums_by
from reports.words.settings import common, shortened

FEW_SETTINGS = 3  # settings of one target that are still shown one by one
SHARED = [name for name in CONFIG if name != "settings"]
COSTS = {"energy_pj": "energy", "area_mm2": "area"}  # what is held against latency, and what a table calls it


def split(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(rows of targets with few settings, rows of sweeps) of checked rows. Kernels and types of a GPU are no sweep."""
    count = rows.groupby(SHARED, dropna=False)["settings"].transform("nunique")
    swept = (count > FEW_SETTINGS) & (rows["level"] != KERNEL)
    return rows[~swept].reset_index(drop=True), rows[swept].reset_index(drop=True)


def design_tables(rows: pd.DataFrame) -> Iterator[tuple[dict, pd.DataFrame]]:
    """(what the designs share: SHARED and `settings`, the ones all have; table) for each sweep in checked rows.

    One line per design and mask, fastest first: `design`, its number in that order, the same for all masks;
    `design_settings`, where it differs from the others; MASKS; what `sums` gives; `front`: the Pareto fronts of latency
    it is on, among the designs of the same masks. Designs that cannot run all layers sum fewer of them than the others:
    they stand last, with a `reason`, without a number, and on no front."""
    for key, group in groups(rows, SHARED):
        named = shortened(list(dict.fromkeys(group["settings"])))
        barred = group[~known(group)].drop_duplicates(KEYS)[[*KEYS, "reason"]]
        table = sums_by(group, KEYS).merge(barred, on=KEYS, how="left").fillna({"reason": ""})
        table.insert(0, "design_settings", table["settings"].map(named))
        table = table.drop(columns=SHARED)
        whole = table["infeasible_layers"] == 0
        latency_us = table["latency_us"].where(whole)
        table = table.assign(_latency=latency_us).sort_values("_latency", kind="stable", ignore_index=True)
        number = table.groupby("settings", sort=False, dropna=False).ngroup() + 1
        table["design"] = number.where(table["_latency"].notna()).astype("Int64")
        table["front"] = _fronts(table)
        yield {**key, "settings": common(group["settings"])}, table.drop(columns="_latency")


def _fronts(table: pd.DataFrame) -> pd.Series:
    """ "energy", "area" or "energy and area" for the designs on these fronts, else ""."""
    named = pd.Series([[] for _ in range(len(table))], index=table.index, dtype=object)
    costs = {cost: name for cost, name in COSTS.items() if table[cost].nunique() > 1}  # else there is nothing to trade
    for _, same in groups(table, MASKS):
        for cost, name in costs.items():
            front = pareto(same["_latency"].to_numpy(np.float64), same[cost].to_numpy(np.float64))
            for place in same.index[front]:
                named[place].append(name)
    return named.map(" and ".join)


def pareto(latency: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Which designs no other one dominates: at least as good in both and better in one. (n,) bool; missing values are
    on no front."""
    front = np.zeros(len(latency), dtype=bool)
    least = last = np.inf  # the lowest cost of all faster designs, and the latency it was found at
    for place in np.lexsort((cost, latency)):
        if not (np.isfinite(latency[place]) and np.isfinite(cost[place])):
            continue
        equal = latency[place] == last and cost[place] == least
        if cost[place] < least or equal:
            front[place] = True
            least, last = cost[place], latency[place]
    return front
