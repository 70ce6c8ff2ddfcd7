"""Result rows in, tables out: pure functions from frame to frame, numbers only, nothing formatted. How rows add up:
reports/sums.py; perplexities: reports/quality.py."""

import pandas as pd

from reports.quality import beside, perplexity_table
from reports.sums import ALL_ROLES, KEYS, MASKS, checked, counted, groups, known, ratio, sparsity_of, sums, total
from workloads.layers import role_rank


def headline_table(rows: pd.DataFrame, quality: pd.DataFrame | None = None) -> pd.DataFrame:
    """One line per configuration (sums.CONFIG), method, pattern and target sparsity: the whole model, with its perplexity where
    known.

    `bound_*_share`: share of the cycles spent in layers that are bound by compute, imbalance, memory or buffer, 0..1.
    `slowest_role`: the role that takes most of the cycles, `slowest_role_share` its share, 0..1.
    """
    lines = []
    perplexities = perplexity_table(quality)
    for key, group in groups(checked(rows), KEYS):
        used = counted(group)
        lines.append({**key, **sums(group), **_bound_shares(used), **_slowest_role(used), **beside(key, perplexities)})
    return pd.DataFrame(lines)


def _bound_shares(used: pd.DataFrame) -> dict[str, float]:
    cycles = total(used["cycles"])
    return {
        f"bound_{bound}_share": ratio(float(used.loc[used["bound"] == bound, "cycles"].sum()), cycles)
        for bound in ("compute", "imbalance", "memory", "buffer")
    }


def _slowest_role(used: pd.DataFrame) -> dict[str, object]:
    if used.empty:
        return {"slowest_role": "", "slowest_role_share": float("nan")}
    by_role = used.groupby("role", sort=False)["cycles"].sum().astype("float64")
    return {"slowest_role": by_role.idxmax(), "slowest_role_share": ratio(by_role.max(), by_role.sum())}


def role_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per role, then one for all of them, for each configuration, method, pattern and target sparsity.

    `mean_*` are cycles per layer of that role; the line "all" is the mean over every layer of the model.
    `cycles_share`: the role's share of the model's cycles, 0..1.
    """
    lines = []
    for key, group in groups(checked(rows), KEYS):
        whole = total(counted(group)["cycles"])
        parts = [(role["role"], part) for role, part in groups(group, ["role"])]
        parts = sorted(parts, key=lambda item: role_rank(item[0]))
        for role, part in [*parts, (ALL_ROLES, group)]:
            added = sums(part)
            for name in ("dense_cycles", "cycles", "cycles_spread", "published_dense_cycles"):
                added[f"mean_{name}"] = ratio(added[name], added["layers"])
            shares = {"cycles_share": ratio(total(counted(part)["cycles"]), whole)}
            lines.append({**key, "role": role, "shapes": _shapes(part) if role != ALL_ROLES else "", **added, **shares})
    return pd.DataFrame(lines)


def _shapes(rows: pd.DataFrame) -> str:
    """ "out x in" of the layers; at most three, then how many more."""
    shapes = [f"{o} x {i}" for o, i in dict.fromkeys(zip(rows["out_features"], rows["in_features"], strict=True))]
    return ", ".join(shapes[:3]) + (f", and {len(shapes) - 3} more" if len(shapes) > 3 else "")


def layer_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per layer: what it is, where its cycles go, what it gains, why it cannot run."""
    rows = checked(rows)
    shapes = [f"{o} x {i}" for o, i in zip(rows["out_features"], rows["in_features"], strict=True)]
    before, after = [*KEYS, "seed", "block", "role", "layer"], ["sparsity", "dense_cycles", "cycles", "speedup"]
    rest = ["compute_speedup", "published_speedup", "ideal_cycles", "imbalance_cycles", "stall_cycles"]
    rest += ["buffer_stall_cycles", "folds", "distribution_cycles", "utilisation", "energy_ratio", "bound"]
    table = rows[[*before, *after, *rest, "feasible", "reason"]].copy()
    table.insert(len(before), "shapes", shapes)
    return table


def infeasible_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per reason why layers are not counted, with how many layers it holds for."""
    rows = checked(rows)
    out = rows[~known(rows)]
    reason = out["reason"].where(out["reason"] != "", "its cycles are missing from the result rows")
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
