"""Result rows in, tables out: pure functions from frame to frame, numbers only, nothing formatted. How rows add up:
reports/tables/sums.py; perplexities: reports/tables/quality.py."""

import math

import numpy as np
import pandas as pd

from reports.tables.quality import beside, perplexity_table
from reports.tables.sums import (
    ALL_ROLES,
    KERNEL,
    KEYS,
    MASKS,
    checked,
    counted,
    counted_mask,
    durations,
    groups,
    known,
    no_baseline,
    numbered,
    ratio,
    ratios,
    sparsity_of,
    sums_by,
    total,
    totals,
)
from reports.words.settings import type_of
from workloads.columns.layers import LAYER_COLUMNS
from workloads.layers import role_rank

BOUNDS = ("compute", "imbalance", "memory", "buffer")  # of an accelerator
LEFT_OUT = ("infeasible_layers", "no_baseline_layers")
KERNEL_BOUNDS = ("tensor", "dram", "l2", "launch", "wave_tail")  # of a GPU kernel


def headline_table(rows: pd.DataFrame, quality: pd.DataFrame | None = None) -> pd.DataFrame:
    """One line per configuration (sums.CONFIG), method, pattern and target sparsity: the whole model, with its
    perplexity where known.

    `bound_*_share`: share of the time spent in layers that are bound by it, 0..1; NaN for what cannot bound such a
    target.
    `dtype`: the number type of a GPU's kernels. `slowest_role`: the role that takes most of the time,
    `slowest_role_share` its share, 0..1."""
    rows = checked(rows)
    table = sums_by(rows, KEYS)
    narrow = rows[[*KEYS, *_TIMES, "bound", "role"]].assign(_fine=counted_mask(rows))
    told = [_of_time(group[group["_fine"]]) for _, group in groups(narrow, KEYS)]
    perplexities = perplexity_table(quality)
    found = [beside(key, perplexities) for key in table[KEYS].to_dict("records")]
    table.insert(len(KEYS), "dtype", [type_of(settings) for settings in table["settings"]])
    return pd.concat([table, pd.DataFrame(told), pd.DataFrame(found)], axis=1)


_TIMES = ("cycles", "dense_cycles", "latency_us", "dense_latency_us")


def _of_time(used: pd.DataFrame) -> dict[str, object]:
    """Of one configuration and method: what bounds its time, and its slowest role."""
    own = durations(used)[1].to_numpy(dtype=np.float64, na_value=np.nan)
    whole, kernels = own.sum() if len(own) else float("nan"), (used["level"] == KERNEL).all()
    bounds = used["bound"].to_numpy()
    possible = KERNEL_BOUNDS if kernels and (bounds != "").any() else () if kernels else BOUNDS
    return {
        **{
            f"bound_{bound}_share": ratio(float(own[bounds == bound].sum()), whole)
            if bound in possible
            else float("nan")
            for bound in (*BOUNDS, *KERNEL_BOUNDS)
        },
        **_slowest_role(used["role"], own),
    }


def _slowest_role(roles: pd.Series, own: np.ndarray) -> dict[str, object]:
    if not len(own) or np.isnan(own).all():
        return {"slowest_role": "", "slowest_role_share": float("nan")}
    codes, names = pd.factorize(roles)
    by_role = np.bincount(codes, weights=np.nan_to_num(own, nan=0.0))
    return {
        "slowest_role": names[by_role.argmax()],
        "slowest_role_share": ratio(float(by_role.max()), float(by_role.sum())),
    }


def role_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per role, then one for all of them, for each configuration, method, pattern and target sparsity.

    `mean_*` are cycles or us per layer of that role; the line "all" is the mean over every layer of the model.
    `time_share`: the role's share of the model's time, 0..1. `kernel` and `bound`: those of its layers, the most time
    first."""
    rows = checked(rows)
    whole, roles = [*KEYS], [*KEYS, "role"]
    parts = [_role_lines(rows, whole).assign(role=ALL_ROLES, shapes=""), _role_lines(rows, roles)]
    parts[1]["shapes"] = _shapes(rows, roles)
    for table in parts:
        for name in _MEANS:
            table[f"mean_{name}"] = ratios(table[name].to_numpy(), table["layers"].to_numpy(dtype=np.float64))
    table = pd.concat(parts, ignore_index=True)
    place, _ = numbered(table, KEYS)
    table["time_share"] = ratios(table["_own"].to_numpy(), parts[0]["_own"].to_numpy()[place])
    rank = [math.inf if role == ALL_ROLES else role_rank(role) for role in table["role"]]
    order = pd.DataFrame({"place": place, "rank": rank}).sort_values(["place", "rank"], kind="stable").index
    table = table.drop(columns="_own").iloc[order].reset_index(drop=True)
    first = [*KEYS, "role", "shapes"]
    return table[[*first, *(name for name in table.columns if name not in first)]]


def _role_lines(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """What `sums_by` gives with `_own`, the summed time, and the kernels and bounds of each group."""
    group, _ = numbered(rows, keys)
    table, fine = sums_by(rows, keys), counted_mask(rows)
    used, group = rows[fine], group[fine]
    # As in `durations`: cycles where all rows of a group have any, else us.
    cycles, dense = (totals(used[name], group, len(table)) for name in ("cycles", "dense_cycles"))
    by_cycles = np.isfinite(cycles) & np.isfinite(dense)
    latencies = used["latency_us"].to_numpy(dtype=np.float64, na_value=np.nan)
    own = np.where(by_cycles[group], used["cycles"].to_numpy(dtype=np.float64, na_value=np.nan), latencies)
    return table.assign(
        _own=totals(pd.Series(own), group, len(table)),
        kernel=_by_time(used["kernel"], own, group, len(table)),
        bound=_by_time(used["bound"], own, group, len(table)),
    )


_MEANS = (
    *("dense_cycles", "cycles", "cycles_spread", "published_dense_cycles"),
    *("dense_latency_us", "latency_us", "latency_us_spread"),
)


def _by_time(texts: pd.Series, own: np.ndarray, group: np.ndarray, count: int) -> list[str]:
    """The different texts of each group, the one that takes most time first."""
    table = pd.DataFrame({"group": group, "text": texts.fillna("").to_numpy(), "own": own})
    times = table.groupby(["group", "text"], sort=False)["own"].sum().reset_index()
    return _joined(times.sort_values(["group", "own"], ascending=[True, False], kind="stable"), count)


def _joined(table: pd.DataFrame, count: int) -> list[str]:
    """The texts of each group, comma separated, empty ones aside."""
    found: list[list[str]] = [[] for _ in range(count)]
    for group, text in zip(table["group"], table["text"], strict=True):
        if text:
            found[group].append(str(text))
    return [", ".join(texts) for texts in found]


def _shapes(rows: pd.DataFrame, keys: list[str]) -> list[str]:
    """ "out x in" of the layers of each group; at most three, then how many more."""
    group, each = numbered(rows, keys)
    shapes = rows[["out_features", "in_features"]].assign(_group=group).drop_duplicates()
    found: list[list[str]] = [[] for _ in range(len(each))]
    for out, into, number in shapes.itertuples(index=False):
        found[number].append(f"{out} x {into}")
    return [", ".join(f[:3]) + (f", and {len(f) - 3} more" if len(f) > 3 else "") for f in found]


def layer_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per layer: what it is, where its time goes, what it gains, why it cannot run. Layers of one role and
    shape that a GPU runs alike are one line, the first's, with their number in `layers_alike`."""
    rows = checked(rows)
    shapes = [f"{o} x {i}" for o, i in zip(rows["out_features"], rows["in_features"], strict=True)]
    before, after = [*KEYS, "seed", "block", "role", "layer"], ["sparsity", "dense_cycles", "cycles", "speedup"]
    rest = ["compute_speedup", "published_speedup", "ideal_cycles", "imbalance_cycles", "stall_cycles"]
    rest += ["buffer_stall_cycles", *own_columns(rows), "utilisation", "energy_ratio", "bound"]
    rest += ["kernel", "latency_us", "dense_latency_us", "latency_error_p90", "mapping", "verdict", "extrapolated"]
    table = rows[[*before, *after, *rest, "feasible", "reason"]].copy()
    table.insert(len(before), "shapes", shapes)
    alike = [*KEYS, "seed", "role", "shapes", "sparsity", "kernel", "latency_us", "dense_latency_us", "reason"]
    kernels = table["level"] == KERNEL
    count = table.groupby(alike, dropna=False)["layer"].transform("size").astype("Int64")
    return table.assign(layers_alike=count.where(kernels))[~(kernels & table.duplicated(alike))].reset_index(drop=True)


def own_columns(rows: pd.DataFrame) -> list[str]:
    """The columns that a target has beside those which all result rows share."""
    shared = {column.name for column in LAYER_COLUMNS}
    return [name for name in rows.columns if name not in shared]


def infeasible_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per reason why layers are not counted, or have no baseline, with how many layers it holds for."""
    rows = checked(rows)
    out = rows[~known(rows) | no_baseline(rows)]
    reason = out["reason"].where(
        out["reason"] != "", "its time, or that of the unpruned layer, is missing from the rows"
    )
    keys = [*KEYS, "reason"]
    if out.empty:
        return pd.DataFrame(columns=[*keys, *LEFT_OUT])
    ran = no_baseline(out)
    group, lines = numbered(out.assign(reason=reason), keys)
    layers = out[["layer"]].assign(_group=group, _ran=ran).drop_duplicates()
    counts = [np.bincount(layers.loc[layers["_ran"] == held, "_group"], minlength=len(lines)) for held in (False, True)]
    return lines.assign(**dict(zip(LEFT_OUT, counts, strict=True)))


def levels_table(rows: pd.DataFrame) -> pd.DataFrame:
    """The two levels side by side per role: a publication's own formula against our cycle model.

    NAME-paper is held against NAME, and no other design. Only layers that both levels count enter, with the same mask
    and the same tokens. Cycles are means per layer. Empty when no layer was run at both levels."""
    used = counted(checked(rows))
    same = ["model", *MASKS, "seed", "tokens", "activation_density", "role", "block", "layer", "mask_sha256"]
    same += ["out_features", "in_features", "unpruned_out_features", "unpruned_in_features", "nnz"]
    kept = ["target", "settings", "cycles", "dense_cycles", "published_dense_cycles", "compute_cycles"]
    kept += ["dense_compute_cycles", "stall_cycles"]
    paper, cycle = (used.loc[used["level"] == level, [*same, *kept]] for level in ("paper", "cycle"))
    pairs = paper.merge(cycle, on=same, suffixes=("_paper", "_cycle"))
    alike = [p.removesuffix("-paper") == c for p, c in zip(pairs["target_paper"], pairs["target_cycle"], strict=True)]
    pairs = pairs[pd.Series(alike, index=pairs.index, dtype=bool)]
    lines = []
    targets = ["target_paper", "settings_paper", "target_cycle", "settings_cycle"]
    for key, group in groups(pairs, ["model", *targets, "tokens", "activation_density", *MASKS]):
        parts = sorted(((k["role"], part) for k, part in groups(group, ["role"])), key=lambda item: role_rank(item[0]))
        lines += [{**key, "role": role, **_two_levels(part)} for role, part in [*parts, (ALL_ROLES, group)]]
    return pd.DataFrame(lines)


def _two_levels(pairs: pd.DataFrame) -> dict[str, float]:
    """Means per layer (and seed) and speedups of the same layers at both levels."""
    added = {name: total(pairs[name]) for name in pairs.columns if "cycles_" in name}
    layers = len(pairs)
    return {
        "layers": pairs["layer"].nunique(),
        "sparsity": sparsity_of(pairs),
        "paper_dense_cycles": added["dense_cycles_paper"] / layers,
        "paper_cycles": added["cycles_paper"] / layers,
        "published_speedup": ratio(added["published_dense_cycles_paper"], added["cycles_paper"]),
        "paper_speedup": ratio(added["dense_cycles_paper"], added["cycles_paper"]),
        "cycle_compute_speedup": ratio(added["dense_compute_cycles_cycle"], added["compute_cycles_cycle"]),
        "cycle_speedup": ratio(added["dense_cycles_cycle"], added["cycles_cycle"]),
        "cycle_dense_cycles": added["dense_cycles_cycle"] / layers,
        "cycle_cycles": added["cycles_cycle"] / layers,
        "cycle_stall_share": ratio(added["stall_cycles_cycle"], added["cycles_cycle"]),
    }
