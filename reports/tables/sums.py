"""How result rows add up. The rules that hold in every table:

* A speedup of several layers is sum of dense times / sum of times, never a mean of ratios: a tiny layer that
  triples its pace must not hide a big one that loses. Times are cycles where rows have them, else latencies (level
  "kernel").
* Both sums run over the same layers. A layer that the target cannot run counts in `infeasible_layers` and enters
  no sum; a value missing in one layer makes the sum missing, not smaller. So a layer that runs but has no dense
  baseline (`no_baseline_layers`: it fits compressed alone) leaves cycles, latency and energy as they are and takes the
  speedup of the whole away.
* Masks that differ in their seed alone are one method: cycles are means over the seeds, ratios those of the means, a
  `*_spread` is the sample standard deviation of what each seed gives. A layer that cannot run with one seed is left out
  with all of them.
* `sparsity` is weighted by weights: zeros / weights over the counted layers, 0..1; of what is included beside layers
  (workloads/rows.py, `beside`) it has none, while its time counts like any layer's.
* One target with other settings, or with other activations, is another configuration: its rows are never added to
these. A
  kernel that was asked for (measured and published rows) is such a setting; the one that a prediction finds fastest is
  not: a layer that falls back to the dense kernel is part of the model's time.
* Energy adds up as cycles do, and an energy ratio is sum of dense energies / sum of energies. Layers run one after
another, so
  the energy-delay product of several is their summed energy x their summed latency, not a sum of products.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from workloads.columns.layers import LAYER_COLUMNS
from workloads.errors import UserError
from workloads.layers import role_rank
from workloads.rows import kept_weights, to_frame, unpruned_weights
from workloads.verdicts import UNCLEAR, verdict

# What two numbers must share before anyone may compare them.
CONFIG = ["model", "target", "settings", "level", "source", "tokens", "activation_density"]
MASKS = ["method", "pattern", "target_sparsity"]  # what made the masks, but for their seed
KEYS = [*CONFIG, *MASKS]
ALL_ROLES = "all"
KERNEL = "kernel"  # the level of rows that have latencies of GPU kernels and no cycles
ENERGY_PARTS = ["mac_pj", "idle_pj", "register_pj", "buffer_pj", "dram_pj"]
DENSE_ENERGY_PARTS = [f"dense_{name}" for name in ENERGY_PARTS]
# Rows of earlier versions lack these; without them a row says what it said then.
LATER = {
    *("settings", "activation_density", "buffer_stall_cycles", "scale_bytes"),
    *(
        "energy_pj",
        *ENERGY_PARTS,
        "dense_energy_pj",
        *DENSE_ENERGY_PARTS,
        "energy_ratio",
        "edp_pj_us",
        "dense_edp_pj_us",
        "area_mm2",
    ),
    *("kernel", "dense_latency_us", "latency_error_p90", "speedup_error_p90", "verdict", "extrapolated"),
    *("layer_tokens", "executions", "routing"),
}


def checked(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, sorted for reading. Raises UserError when they are empty, incomplete or ambiguous.

    Models, targets, settings, methods and patterns keep the order in which they first occur. Columns that rows of
    earlier versions lack are there, empty; an activation density that is not given is 1; latencies that are not given
    are cycles / clock."""
    if rows.empty:
        raise UserError("there are no result rows to report on; run a study that simulates at least one layer")
    missing = [c.name for c in LAYER_COLUMNS if c.name not in rows]
    if missing and set(missing) <= LATER:
        absent = to_frame([{}] * len(rows), tuple(c for c in LAYER_COLUMNS if c.name in missing))
        rows = rows.assign(**{name: absent[name].array for name in missing})
    elif missing:
        raise UserError(
            f"result rows lack the column {missing[0]!r}; workloads/columns/layers.py lists all that are needed"
        )
    rows = rows.assign(
        settings=_with_kernel(rows),
        activation_density=rows["activation_density"].fillna(1.0),
        latency_us=rows["latency_us"].fillna(rows["cycles"].astype("float64") / rows["clock_mhz"]),
        dense_latency_us=rows["dense_latency_us"].fillna(rows["dense_cycles"].astype("float64") / rows["clock_mhz"]),
    )
    texts = ("model", "target", "settings", "level", "source", *MASKS[:2], "role", "layer")
    codes = {key: pd.factorize(rows[key]) for key in texts}
    order = pd.DataFrame({key: codes[key][0] for key in ("model", "target", "settings", "level", "source")})
    order["tokens"] = rows["tokens"].astype("float64").to_numpy()
    order["activations"] = -rows["activation_density"].astype("float64").to_numpy()
    for key in MASKS:
        order[key] = codes[key][0] if key in codes else pd.factorize(rows[key])[0]
    order["seed"] = rows["seed"].astype("float64").to_numpy()
    double = rows[order.assign(layer=codes["layer"][0]).duplicated().to_numpy()]
    if not double.empty:
        row = double.iloc[0]
        on = f"{row.target} {row.settings}".strip()
        where = f"{row.model}, {row.method} {row.pattern} on {on}, {row.tokens} tokens"
        raise UserError(
            f"layer {row.layer!r} has more than one row for {where}, seed {row.seed} ({len(double)} such rows), and "
            "adding them up would mean nothing; write one report per hardware description, or name them apart"
        )
    order["block"] = rows["block"].astype("float64").to_numpy()
    place, names = codes["role"]
    order["role"] = np.array([*map(role_rank, names), role_rank("")])[place]
    return rows.iloc[order.sort_values(list(order.columns), kind="stable").index].reset_index(drop=True)


def _with_kernel(rows: pd.DataFrame) -> pd.Series:
    """The settings, with the kernel that was asked for where they do not name it."""
    settings = rows["settings"].fillna("")
    asked = rows["source"].isin(("measured", "published")) & (rows["kernel"].fillna("") != "")
    asked &= ~settings.str.contains(r"(?:^|\s)kernel=", regex=True)
    return settings.where(~asked, ("kernel=" + rows["kernel"].fillna("") + " " + settings).str.strip())


def known(rows: pd.DataFrame) -> pd.Series:
    """Which rows are feasible, with their time known: cycles or latency, and the unpruned layer's unless `reason` says
    why it has none."""
    cycles = rows["cycles"].notna() & rows["dense_cycles"].notna()
    return rows["feasible"] & (
        cycles | rows["latency_us"].notna() & rows["dense_latency_us"].notna() | no_baseline(rows)
    )


def no_baseline(rows: pd.DataFrame) -> pd.Series:
    """Which rows ran, while their unpruned layer does not fit."""
    without = rows["dense_cycles"].isna() & rows["dense_latency_us"].isna() & (rows["reason"].fillna("") != "")
    return rows["feasible"] & rows["latency_us"].notna() & without


def durations(rows: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """(dense, own) time of each row: cycles where all of them have any, else us. For ratios and shares of rows of one
    KEYS."""
    if rows[["cycles", "dense_cycles"]].notna().all(axis=None):
        return rows["dense_cycles"], rows["cycles"]
    return rows["dense_latency_us"], rows["latency_us"]


def counted(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose times enter sums: those of layers that are known with every seed there is."""
    fine = counted_mask(rows)
    return rows if fine.all() else rows[fine]


def counted_mask(rows: pd.DataFrame) -> np.ndarray:
    """Which rows are `counted`: (rows,) bool."""
    fine = known(rows)
    if not fine.all():
        fine = fine.groupby([rows[key] for key in [*KEYS, "layer"]], sort=False, dropna=False).transform("all")
    return fine.to_numpy(dtype=bool)


def by(table: pd.DataFrame, keys: list[str]) -> list[tuple[dict, pd.DataFrame]]:
    """As `groups`; none of an empty table."""
    return [] if table.empty else list(groups(table, keys))


def groups(rows: pd.DataFrame, keys: list[str]) -> Iterator[tuple[dict, pd.DataFrame]]:
    """(key values, rows) in order of appearance, missing keys included."""
    for values, group in rows.groupby(keys, sort=False, dropna=False):
        yield dict(zip(keys, values, strict=True)), group


def total(values: pd.Series) -> float:
    """Sum; NaN when there is nothing to add or anything is missing."""
    return float("nan") if values.empty or values.isna().any() else float(values.sum())


def ratio(above: float, below: float) -> float:
    """above / below; NaN where that has no meaning. Sums of floats that differ in their last digits alone are equal."""
    if below and abs(above - below) <= 1e-12 * abs(below):
        return 1.0
    return above / below if below else float("nan")


def spread(values: Iterable[float]) -> float:
    """Sample standard deviation (n - 1); NaN with fewer than two values, a missing or an infinite one."""
    each = np.fromiter(values, dtype=np.float64)
    if len(each) < 2 or not np.isfinite(each).all():
        return float("nan")
    scale = float(np.abs(each).max()) or 1.0  # squares of a diverged perplexity would overflow
    return float(np.std(each / scale, ddof=1)) * scale


def sparsity_of(rows: pd.DataFrame) -> float:
    """zeros / weights, 0..1."""
    weights = total(unpruned_weights(rows))
    return 1.0 - ratio(total(kept_weights(rows)), weights)


def sums(rows: pd.DataFrame) -> dict[str, float]:
    """Cycles, latency, energy and their ratios over the counted ones of `rows` (checked, one method's), as the module's
    head says; counts of layers and seeds beside them. Cycles, pJ and us are those of one pass through all the layers.
    `latency_error_p90` is the largest of any layer; errors of layers need not add up to it."""
    return {name: values[0] for name, values in _sums(rows, np.zeros(len(rows), dtype=np.intp), 1).items()}


def sums_by(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """`keys` and what `sums` gives of each group, in order of appearance. `keys` hold KEYS, or `rows` are of one
    KEYS."""
    found, each = numbered(rows, keys)
    return each.assign(**_sums(rows, found, len(each)))


def numbered(rows: pd.DataFrame, keys: list[str]) -> tuple[np.ndarray, pd.DataFrame]:
    """(number of each row's group, a line per group with its keys), in order of appearance, missing keys included."""
    found = rows.groupby(keys, sort=False, dropna=False).ngroup().to_numpy()
    _, first = np.unique(found, return_index=True)
    return found, rows[keys].iloc[first].reset_index(drop=True)


_TOTALS = (
    *("cycles", "dense_cycles", "published_dense_cycles", "compute_cycles", "dense_compute_cycles", "stall_cycles"),
    *("buffer_stall_cycles", "latency_us", "dense_latency_us", "energy_pj", "dense_energy_pj", *ENERGY_PARTS),
)


def _sums(rows: pd.DataFrame, group: np.ndarray, count: int) -> dict[str, Any]:
    """`sums` of each of `count` groups; group: (rows,) their numbers."""
    fine = counted_mask(rows)
    used, group_used = rows[fine], group[fine]
    seeds = _Seeds(used, group_used, count)
    sum_of = {name: totals(used[name], group_used, count) for name in _TOTALS}
    a_seed = {name: ratios(values, seeds.count) for name, values in sum_of.items()}
    by_cycles = np.isfinite(sum_of["cycles"]) & np.isfinite(sum_of["dense_cycles"])
    weights = totals(unpruned_weights(used), group_used, count)
    speedup = np.where(
        by_cycles,
        ratios(sum_of["dense_cycles"], sum_of["cycles"]),
        ratios(sum_of["dense_latency_us"], sum_of["latency_us"]),
    )
    energy_ratio = ratios(sum_of["dense_energy_pj"], sum_of["energy_pj"])
    layers = _different(used, ["layer"], group_used, count)
    bare = no_baseline(used).to_numpy()
    beyond = (used["extrapolated"].fillna("") != "").to_numpy(dtype=bool)
    error = _extreme(np.fmax, used["speedup_error_p90"], group_used, count)
    return {
        "layers": layers,
        "infeasible_layers": _different(rows, ["layer"], group, count) - layers,
        "no_baseline_layers": _different(used[bare], ["layer"], group_used[bare], count),
        "seeds": _different(rows, ["seed"], group, count),
        "sparsity": 1.0 - ratios(totals(kept_weights(used), group_used, count), weights),
        "dense_cycles": a_seed["dense_cycles"],
        "cycles": a_seed["cycles"],
        "cycles_spread": seeds.spread(seeds.totals("cycles")),
        "latency_us": a_seed["latency_us"],
        "latency_us_spread": seeds.spread(seeds.totals("latency_us")),
        "dense_latency_us": a_seed["dense_latency_us"],
        "latency_error_p90": _extreme(np.fmax, used["latency_error_p90"], group_used, count),
        "extrapolated_layers": _different(used[beyond], ["layer"], group_used[beyond], count),
        "speedup": speedup,
        "speedup_error_p90": error,
        "verdict": _verdicts(speedup, error),
        "speedup_spread": seeds.spread(seeds.speedups()),
        "compute_speedup": ratios(sum_of["dense_compute_cycles"], sum_of["compute_cycles"]),
        "published_dense_cycles": a_seed["published_dense_cycles"],
        "published_speedup": ratios(sum_of["published_dense_cycles"], sum_of["cycles"]),
        "stall_share": ratios(sum_of["stall_cycles"], sum_of["cycles"]),
        "buffer_stall_share": ratios(sum_of["buffer_stall_cycles"], sum_of["cycles"]),
        "energy_pj": a_seed["energy_pj"],
        **{part: a_seed[part] for part in ENERGY_PARTS},
        "dense_energy_pj": a_seed["dense_energy_pj"],
        "energy_ratio": energy_ratio,
        "energy_ratio_spread": seeds.spread(ratios(seeds.totals("dense_energy_pj"), seeds.totals("energy_pj"))),
        "edp_pj_us": a_seed["energy_pj"] * a_seed["latency_us"],
        "edp_ratio": energy_ratio * speedup,  # both machines run at one clock
        "area_mm2": _only(used["area_mm2"], group_used, count),
    }


def _verdicts(speedup: np.ndarray, error: np.ndarray) -> np.ndarray:
    """(groups,) "not distinguishable" where the band of a predicted speedup's error, the largest of any layer, holds
    1.0; else ""."""
    unclear = (verdict(speedup, error) == UNCLEAR) & np.isfinite(error) & (speedup != 1)
    return np.where(unclear, UNCLEAR, "")


class _Seeds:
    """The rows of each group apart by their seed. `count`: (groups,) how many seeds each has."""

    def __init__(self, used: pd.DataFrame, group: np.ndarray, groups: int):
        pairs = pd.DataFrame({"group": group, "seed": used["seed"].to_numpy(dtype="float64", na_value=np.nan)})
        self._used = used
        self._pair, each = numbered(pairs, ["group", "seed"]) if len(pairs) else (group, pairs)
        self._group = each["group"].to_numpy(dtype=np.intp)
        self.count = np.bincount(self._group, minlength=groups).astype(np.float64)

    def totals(self, column: str) -> np.ndarray:
        return totals(self._used[column], self._pair, len(self._group))

    def speedups(self) -> np.ndarray:
        dense, own = self.totals("dense_cycles"), self.totals("cycles")
        known = np.isfinite(dense) & np.isfinite(own)
        latencies = ratios(self.totals("dense_latency_us"), self.totals("latency_us"))
        return np.where(known, ratios(dense, own), latencies)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """(groups,) sample standard deviation of what each seed gives, as `spread`."""
        result = np.full(len(self.count), np.nan)
        for number in np.flatnonzero(self.count > 1):
            result[number] = spread(values[self._group == number])
        return result


def totals(values: pd.Series, group: np.ndarray, count: int) -> np.ndarray:
    """(count,) sum of each group; NaN where there is nothing to add or anything is missing."""
    sums_ = np.bincount(group, weights=values.to_numpy(dtype=np.float64, na_value=np.nan), minlength=count)
    return np.where(np.bincount(group, minlength=count) > 0, sums_, np.nan)


def ratios(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """`ratio` of each pair."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        divided = np.where(below != 0, above / below, np.nan)
        return np.where((below != 0) & (np.abs(above - below) <= 1e-12 * np.abs(below)), 1.0, divided)


def _different(rows: pd.DataFrame, columns: list[str], group: np.ndarray, count: int) -> np.ndarray:
    """(count,) how many different values each group has, a missing one included."""
    each = rows[columns].assign(_group=group).drop_duplicates()
    return np.bincount(each["_group"], minlength=count)


def _extreme(of: np.ufunc, values: pd.Series, group: np.ndarray, count: int) -> np.ndarray:
    """(count,) the largest (np.fmax) or smallest (np.fmin) of each group, missing ones aside."""
    result = np.full(count, np.nan)
    of.at(result, group, values.to_numpy(dtype=np.float64, na_value=np.nan))
    return result


def _only(values: pd.Series, group: np.ndarray, count: int) -> np.ndarray:
    """(count,) the one value of a group; NaN where there are several, or any is missing."""
    low, high = _extreme(np.fmin, values, group, count), _extreme(np.fmax, values, group, count)
    return np.where((low == high) & np.isfinite(totals(values, group, count)), low, np.nan)
