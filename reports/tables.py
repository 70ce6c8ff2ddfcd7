"""Result rows in, tables out: pure functions from frame to frame, numbers only, nothing formatted. How rows add up:
reports/sums.py; perplexities: reports/quality.py."""

import pandas as pd

from reports.quality import beside, perplexity_table
from reports.settings import type_of
from reports.sums import (
    ALL_ROLES,
    KERNEL,
    KEYS,
    MASKS,
    checked,
    counted,
    durations,
    groups,
    known,
    ratio,
    sparsity_of,
    sums,
    total,
)
from workloads.layers import role_rank

BOUNDS = ("compute", "imbalance", "memory", "buffer")  # of an accelerator
KERNEL_BOUNDS = ("tensor", "dram", "l2", "launch", "wave_tail")  # of a GPU kernel


def headline_table(rows: pd.DataFrame, quality: pd.DataFrame | None = None) -> pd.DataFrame:
    """One line per configuration (sums.CONFIG), method, pattern and target sparsity: the whole model, with its perplexity where
    known.

    `bound_*_share`: share of the time spent in layers that are bound by it, 0..1; NaN for what cannot bound such a target.
    `dtype`: the number type of a GPU's kernels. `slowest_role`: the role that takes most of the time, `slowest_role_share` its share, 0..1.
    """
    lines = []
    perplexities = perplexity_table(quality)
    for key, group in groups(checked(rows), KEYS):
        used = counted(group)
        shares = {**_bound_shares(used), **_slowest_role(used)}
        lines.append({**key, "dtype": type_of(key["settings"]), **sums(group), **shares, **beside(key, perplexities)})
    return pd.DataFrame(lines)


def _bound_shares(used: pd.DataFrame) -> dict[str, float]:
    _, own = durations(used)
    whole, kernels = total(own), (used["level"] == KERNEL).all()
    possible = KERNEL_BOUNDS if kernels and (used["bound"] != "").any() else () if kernels else BOUNDS
    return {
        f"bound_{bound}_share": ratio(float(own[used["bound"] == bound].sum()), whole)
        if bound in possible
        else float("nan")
        for bound in (*BOUNDS, *KERNEL_BOUNDS)
    }


def _slowest_role(used: pd.DataFrame) -> dict[str, object]:
    if used.empty:
        return {"slowest_role": "", "slowest_role_share": float("nan")}
    by_role = durations(used)[1].groupby(used["role"], sort=False).sum().astype("float64")
    return {"slowest_role": by_role.idxmax(), "slowest_role_share": ratio(by_role.max(), by_role.sum())}


def role_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per role, then one for all of them, for each configuration, method, pattern and target sparsity.

    `mean_*` are cycles or us per layer of that role; the line "all" is the mean over every layer of the model.
    `time_share`: the role's share of the model's time, 0..1. `kernel` and `bound`: those of its layers, the most time first.
    """
    lines = []
    for key, group in groups(checked(rows), KEYS):
        whole = total(durations(counted(group))[1])
        parts = [(role["role"], part) for role, part in groups(group, ["role"])]
        parts = sorted(parts, key=lambda item: role_rank(item[0]))
        for role, part in [*parts, (ALL_ROLES, group)]:
            added = sums(part)
            for name in _MEANS:
                added[f"mean_{name}"] = ratio(added[name], added["layers"])
            used = counted(part)
            lines.append({
                **key, "role": role, "shapes": _shapes(part) if role != ALL_ROLES else "", **added,
                "time_share": ratio(total(durations(used)[1]), whole),
                "kernel": _by_time(used, "kernel"), "bound": _by_time(used, "bound"),
            })  # fmt: skip
    return pd.DataFrame(lines)


_MEANS = (
    *("dense_cycles", "cycles", "cycles_spread", "published_dense_cycles"),
    *("dense_latency_us", "latency_us", "latency_us_spread"),
)


def _by_time(used: pd.DataFrame, column: str) -> str:
    """The different values of a text column, the one that takes most time first."""
    times = durations(used)[1].astype("float64").groupby(used[column].fillna("")).sum().sort_values(ascending=False)
    return ", ".join(str(value) for value in times.index if value)


def _shapes(rows: pd.DataFrame) -> str:
    """ "out x in" of the layers; at most three, then how many more."""
    shapes = [f"{o} x {i}" for o, i in dict.fromkeys(zip(rows["out_features"], rows["in_features"], strict=True))]
    return ", ".join(shapes[:3]) + (f", and {len(shapes) - 3} more" if len(shapes) > 3 else "")


def layer_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per layer: what it is, where its time goes, what it gains, why it cannot run. Layers of one role and shape that a GPU
    runs alike are one line, the first's, with their number in `layers_alike`."""
    rows = checked(rows)
    shapes = [f"{o} x {i}" for o, i in zip(rows["out_features"], rows["in_features"], strict=True)]
    before, after = [*KEYS, "seed", "block", "role", "layer"], ["sparsity", "dense_cycles", "cycles", "speedup"]
    rest = ["compute_speedup", "published_speedup", "ideal_cycles", "imbalance_cycles", "stall_cycles"]
    rest += ["buffer_stall_cycles", "folds", "distribution_cycles", "utilisation", "energy_ratio", "bound"]
    rest += ["kernel", "latency_us", "dense_latency_us", "latency_error_p90", "mapping"]
    table = rows[[*before, *after, *rest, "feasible", "reason"]].copy()
    table.insert(len(before), "shapes", shapes)
    alike = [*KEYS, "seed", "role", "shapes", "sparsity", "kernel", "latency_us", "dense_latency_us", "reason"]
    kernels = table["level"] == KERNEL
    count = table.groupby(alike, dropna=False)["layer"].transform("size").astype("Int64")
    return table.assign(layers_alike=count.where(kernels))[~(kernels & table.duplicated(alike))].reset_index(drop=True)


def infeasible_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per reason why layers are not counted, with how many layers it holds for."""
    rows = checked(rows)
    out = rows[~known(rows)]
    reason = out["reason"].where(
        out["reason"] != "", "its time, or that of the unpruned layer, is missing from the rows"
    )
    keys = [*KEYS, "reason"]
    lines = [
        {**key, "infeasible_layers": part["layer"].nunique()} for key, part in groups(out.assign(reason=reason), keys)
    ]
    return pd.DataFrame(lines, columns=[*keys, "infeasible_layers"])


def levels_table(rows: pd.DataFrame) -> pd.DataFrame:
    """The two levels side by side per role: a publication's own formula against our cycle model.

    NAME-paper is held against NAME, and no other design. Only layers that both levels count enter, with the same mask and the
    same tokens. Cycles are means per layer. Empty when no layer was run at both levels.
    """
    used = counted(checked(rows))
    same = ["model", *MASKS, "seed", "tokens", "activation_density", "role", "block", "layer", "mask_sha256"]
    same += ["out_features", "in_features", "nnz"]
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
