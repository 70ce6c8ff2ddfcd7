"""How result rows add up. The rules that hold in every table:

* A speedup of several layers is sum of dense times / sum of times, never a mean of ratios: a tiny layer that
  triples its pace must not hide a big one that loses. Times are cycles where rows have them, else latencies (level "kernel").
* Both sums run over the same layers. A layer that the target cannot run counts in `infeasible_layers` and enters
  no sum; a value missing in one layer makes the sum missing, not smaller.
* Masks that differ in their seed alone are one method: cycles are means over the seeds, ratios those of the means, a
  `*_spread` is the sample standard deviation of what each seed gives. A layer that cannot run with one seed is left out
  with all of them.
* `sparsity` is weighted by weights: zeros / weights over the counted layers, 0..1.
* One target with other settings, or with other activations, is another configuration: its rows are never added to these. A
  kernel that was asked for (measured and published rows) is such a setting; the one that a prediction finds fastest is not: a layer
  that falls back to the dense kernel is part of the model's time.
* Energy adds up as cycles do, and an energy ratio is sum of dense energies / sum of energies. Layers run one after another, so
  the energy-delay product of several is their summed energy x their summed latency, not a sum of products.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from workloads.errors import UserError
from workloads.layers import role_rank
from workloads.rows import LAYER_COLUMNS, to_frame

# What two numbers must share before anyone may compare them.
CONFIG = ["model", "target", "settings", "level", "source", "tokens", "activation_density"]
MASKS = ["method", "pattern", "target_sparsity"]  # what made the masks, but for their seed
KEYS = [*CONFIG, *MASKS]
ALL_ROLES = "all"
KERNEL = "kernel"  # the level of rows that have latencies of GPU kernels and no cycles
ENERGY_PARTS = ["mac_pj", "idle_pj", "register_pj", "buffer_pj", "dram_pj"]
# Rows of earlier versions lack these; without them a row says what it said then.
LATER = {
    *("settings", "activation_density", "buffer_stall_cycles", "folds", "distribution_cycles", "scale_bytes"),
    *("energy_pj", *ENERGY_PARTS, "dense_energy_pj", "energy_ratio", "edp_pj_us", "dense_edp_pj_us", "area_mm2"),
    *("kernel", "dense_latency_us", "latency_error_p90"),
}


def checked(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, sorted for reading. Raises UserError when they are empty, incomplete or ambiguous.

    Models, targets, settings, methods and patterns keep the order in which they first occur. Columns that rows of earlier
    versions lack are there, empty; an activation density that is not given is 1; latencies that are not given are cycles / clock.
    """
    if rows.empty:
        raise UserError("there are no result rows to report on; run a study that simulates at least one layer")
    missing = [c.name for c in LAYER_COLUMNS if c.name not in rows]
    if missing and set(missing) <= LATER:
        absent = to_frame([{}] * len(rows), tuple(c for c in LAYER_COLUMNS if c.name in missing))
        rows = rows.assign(**{name: absent[name].array for name in missing})
    elif missing:
        raise UserError(f"result rows lack the column {missing[0]!r}; workloads/rows.py lists all that are needed")
    rows = rows.assign(
        settings=_with_kernel(rows),
        activation_density=rows["activation_density"].fillna(1.0),
        latency_us=rows["latency_us"].fillna(rows["cycles"].astype("float64") / rows["clock_mhz"]),
        dense_latency_us=rows["dense_latency_us"].fillna(rows["dense_cycles"].astype("float64") / rows["clock_mhz"]),
    )
    double = rows[rows.duplicated([*KEYS, "seed", "layer"])]
    if not double.empty:
        row = double.iloc[0]
        on = f"{row.target} {row.settings}".strip()
        where = f"{row.model}, {row.method} {row.pattern} on {on}, {row.tokens} tokens"
        raise UserError(
            f"layer {row.layer!r} has more than one row for {where}, seed {row.seed} ({len(double)} such rows), and adding "
            "them up would mean nothing; write one report per hardware description, or name them apart"
        )
    order = pd.DataFrame(
        {key: pd.factorize(rows[key])[0] for key in ("model", "target", "settings", "level", "source")}
    )
    order["tokens"] = rows["tokens"].astype("float64").to_numpy()
    order["activations"] = -rows["activation_density"].astype("float64").to_numpy()
    for key in MASKS:
        order[key] = pd.factorize(rows[key])[0]
    order["seed"] = rows["seed"].astype("float64").to_numpy()
    order["block"] = rows["block"].astype("float64").to_numpy()
    order["role"] = [role_rank(role) for role in rows["role"]]
    return rows.iloc[order.sort_values(list(order.columns), kind="stable").index].reset_index(drop=True)


def _with_kernel(rows: pd.DataFrame) -> pd.Series:
    """The settings, with the kernel that was asked for where they do not name it."""
    settings = rows["settings"].fillna("")
    asked = rows["source"].isin(("measured", "published")) & (rows["kernel"].fillna("") != "")
    asked &= ~settings.str.contains(r"(?:^|\s)kernel=", regex=True)
    return settings.where(~asked, ("kernel=" + rows["kernel"].fillna("") + " " + settings).str.strip())


def known(rows: pd.DataFrame) -> pd.Series:
    """Which rows are feasible, with both their own and their dense time known: cycles or latency."""
    cycles = rows["cycles"].notna() & rows["dense_cycles"].notna()
    return rows["feasible"] & (cycles | rows["latency_us"].notna() & rows["dense_latency_us"].notna())


def durations(rows: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """(dense, own) time of each row: cycles where all of them have any, else us. For ratios and shares of rows of one KEYS."""
    if rows[["cycles", "dense_cycles"]].notna().all(axis=None):
        return rows["dense_cycles"], rows["cycles"]
    return rows["dense_latency_us"], rows["latency_us"]


def counted(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose times enter sums: those of layers that are known with every seed there is."""
    fine = known(rows)
    if fine.all():
        return rows
    return rows[fine.groupby([rows[key] for key in [*KEYS, "layer"]], sort=False, dropna=False).transform("all")]


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
    weights = total(rows["out_features"] * rows["in_features"])
    return 1.0 - ratio(total(rows["nnz"]), weights)


def sums(rows: pd.DataFrame) -> dict[str, float]:
    """Cycles, latency, energy and their ratios over the counted ones of `rows` (checked, one method's), as the module's head says;
    counts of layers and seeds beside them. Cycles, pJ and us are those of one pass through all the layers. `latency_error_p90` is
    the largest of any layer; errors of layers need not add up to it."""
    used = counted(rows)
    seeds = [part for _, part in groups(used, ["seed"])]
    layers = used["layer"].nunique()
    cycles, dense = total(used["cycles"]), total(used["dense_cycles"])
    published = total(used["published_dense_cycles"])
    latency_us = ratio(total(used["latency_us"]), len(seeds))
    energy, dense_energy = total(used["energy_pj"]), total(used["dense_energy_pj"])
    energy_pj, speedup, energy_ratio = ratio(energy, len(seeds)), _speedup(used), ratio(dense_energy, energy)
    return {
        "layers": layers,
        "infeasible_layers": rows["layer"].nunique() - layers,
        "seeds": rows["seed"].nunique(dropna=False),
        "sparsity": sparsity_of(used),
        "dense_cycles": ratio(dense, len(seeds)),
        "cycles": ratio(cycles, len(seeds)),
        "cycles_spread": spread(total(part["cycles"]) for part in seeds),
        "latency_us": latency_us,
        "latency_us_spread": spread(total(part["latency_us"]) for part in seeds),
        "dense_latency_us": ratio(total(used["dense_latency_us"]), len(seeds)),
        "latency_error_p90": float(used["latency_error_p90"].max()),
        "speedup": speedup,
        "speedup_spread": spread(_speedup(part) for part in seeds),
        "compute_speedup": ratio(total(used["dense_compute_cycles"]), total(used["compute_cycles"])),
        "published_dense_cycles": ratio(published, len(seeds)),
        "published_speedup": ratio(published, cycles),
        "stall_share": ratio(total(used["stall_cycles"]), cycles),
        "buffer_stall_share": ratio(total(used["buffer_stall_cycles"]), cycles),
        "energy_pj": energy_pj,
        **{part: ratio(total(used[part]), len(seeds)) for part in ENERGY_PARTS},
        "dense_energy_pj": ratio(dense_energy, len(seeds)),
        "energy_ratio": energy_ratio,
        "energy_ratio_spread": spread(ratio(total(p["dense_energy_pj"]), total(p["energy_pj"])) for p in seeds),
        "edp_pj_us": energy_pj * latency_us,
        "edp_ratio": energy_ratio * speedup,  # both machines run at one clock
        "area_mm2": only(used["area_mm2"]),
    }


def _speedup(used: pd.DataFrame) -> float:
    dense, own = durations(used)
    return ratio(total(dense), total(own))


def only(values: pd.Series) -> float:
    """The one value there is; NaN where there are several, or any is missing."""
    return float(values.iloc[0]) if len(values) and values.notna().all() and values.nunique() == 1 else float("nan")
