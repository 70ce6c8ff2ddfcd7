"""Result rows in, tables out: pure functions from frame to frame, numbers only, nothing formatted.

Three rules hold in every table:
* A speedup of several layers is sum of dense cycles / sum of cycles, never a mean of ratios: a tiny layer that
  triples its pace must not hide a big one that loses.
* Both sums run over the same layers. A layer that the target cannot run counts in `infeasible_layers` and enters
  no sum; a value missing in one layer makes the sum missing, not smaller.
* `sparsity` is weighted by weights: zeros / weights over the counted layers, 0..1.
"""

from collections.abc import Iterator

import pandas as pd

from workloads.errors import UserError
from workloads.layers import role_rank
from workloads.rows import LAYER_COLUMNS

# What two numbers must share before anyone may compare them.
CONFIG = ["model", "target", "level", "source", "tokens"]
MASKS = ["method", "pattern", "target_sparsity"]  # what made the masks
KEYS = [*CONFIG, *MASKS]
ALL_ROLES = "all"

_EVALUATION = ["text", "text_sha256", "seq_len", "windows"]


def checked(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, sorted for reading. Raises UserError when they are empty, incomplete or ambiguous.

    Models, targets, methods and patterns keep the order in which they first occur.
    """
    if rows.empty:
        raise UserError("there are no result rows to report on; run a study that simulates at least one layer")
    missing = [c.name for c in LAYER_COLUMNS if c.name not in rows]
    if missing:
        raise UserError(f"result rows lack the column {missing[0]!r}; workloads/rows.py lists all that are needed")
    double = rows[rows.duplicated([*KEYS, "layer"])]
    if not double.empty:
        row = double.iloc[0]
        where = f"{row.model}, {row.method} {row.pattern} on {row.target}, {row.tokens} tokens"
        raise UserError(
            f"layer {row.layer!r} has more than one row for {where} ({len(double)} such rows), and adding them "
            "up would mean nothing; write one report per seed or hardware description, or name them apart"
        )
    order = pd.DataFrame({key: pd.factorize(rows[key])[0] for key in ("model", "target", "level", "source")})
    order["tokens"] = rows["tokens"].astype("float64").to_numpy()
    for key in MASKS:
        order[key] = pd.factorize(rows[key])[0]
    order["block"] = rows["block"].astype("float64").to_numpy()
    order["role"] = [role_rank(role) for role in rows["role"]]
    return rows.iloc[order.sort_values(list(order.columns), kind="stable").index].reset_index(drop=True)


def counted(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose cycles enter sums: feasible, with both their own and their dense cycles known."""
    return rows[rows["feasible"] & rows["cycles"].notna() & rows["dense_cycles"].notna()]


def groups(rows: pd.DataFrame, keys: list[str]) -> Iterator[tuple[dict, pd.DataFrame]]:
    """(key values, rows) in order of appearance, missing keys included."""
    for values, group in rows.groupby(keys, sort=False, dropna=False):
        yield dict(zip(keys, values, strict=True)), group


def total(values: pd.Series) -> float:
    """Sum; NaN when there is nothing to add or anything is missing."""
    return float("nan") if values.empty or values.isna().any() else float(values.sum())


def ratio(above: float, below: float) -> float:
    """above / below; NaN where that has no meaning."""
    return above / below if below else float("nan")


def sparsity_of(rows: pd.DataFrame) -> float:
    """zeros / weights, 0..1."""
    weights = total(rows["out_features"] * rows["in_features"])
    return 1.0 - ratio(total(rows["nnz"]), weights)


def _sums(rows: pd.DataFrame) -> dict[str, float]:
    """Sums and speedups over the counted ones of `rows`; counts of layers beside them."""
    used = counted(rows)
    cycles, dense = total(used["cycles"]), total(used["dense_cycles"])
    return {
        "layers": len(used),
        "infeasible_layers": len(rows) - len(used),
        "sparsity": sparsity_of(used),
        "dense_cycles": dense,
        "cycles": cycles,
        "speedup": ratio(dense, cycles),
        "compute_speedup": ratio(total(used["dense_compute_cycles"]), total(used["compute_cycles"])),
        "published_dense_cycles": total(used["published_dense_cycles"]),
        "published_speedup": ratio(total(used["published_dense_cycles"]), cycles),
        "stall_share": ratio(total(used["stall_cycles"]), cycles),
    }


def headline_table(rows: pd.DataFrame, quality: pd.DataFrame | None = None) -> pd.DataFrame:
    """One line per model, target, tokens, method, pattern and target sparsity: the whole model, with its perplexity where known.

    `bound_*_share`: share of the cycles spent in layers that are bound by compute, imbalance or memory, 0..1.
    `slowest_role`: the role that takes most of the cycles, `slowest_role_share` its share, 0..1.
    """
    lines = []
    for key, group in groups(checked(rows), KEYS):
        used = counted(group)
        lines.append({**key, **_sums(group), **_bound_shares(used), **_slowest_role(used), **_quality(key, quality)})
    return pd.DataFrame(lines)


def _bound_shares(used: pd.DataFrame) -> dict[str, float]:
    cycles = total(used["cycles"])
    return {
        f"bound_{bound}_share": ratio(float(used.loc[used["bound"] == bound, "cycles"].sum()), cycles)
        for bound in ("compute", "imbalance", "memory")
    }


def _slowest_role(used: pd.DataFrame) -> dict[str, object]:
    if used.empty:
        return {"slowest_role": "", "slowest_role_share": float("nan")}
    by_role = used.groupby("role", sort=False)["cycles"].sum().astype("float64")
    return {"slowest_role": by_role.idxmax(), "slowest_role_share": ratio(by_role.max(), by_role.sum())}


def _quality(key: dict, quality: pd.DataFrame | None) -> dict[str, object]:
    """Perplexity of the pruned and of the dense model, both on the model's first evaluation text."""
    unknown = {"perplexity": float("nan"), "dense_perplexity": float("nan"), "evaluation_text": ""}
    if quality is None or quality.empty or not (quality["model"] == key["model"]).any():
        return unknown
    mine = quality[quality["model"] == key["model"]]
    # A perplexity compares only with one from the same text, cut the same way.
    same = mine[mine.groupby(_EVALUATION, sort=False, dropna=False).ngroup() == 0]
    dense = same[same["method"] == "dense"]
    pruned = same[(same["method"] == key["method"]) & (same["pattern"] == key["pattern"])]
    asked = key["target_sparsity"]
    pruned = pruned[pruned["target_sparsity"].isna() if pd.isna(asked) else pruned["target_sparsity"] == asked]
    return {
        "perplexity": _only(dense if key["method"] == "dense" else pruned, key),
        "dense_perplexity": _only(dense, key),
        "evaluation_text": same["text"].iloc[0],
    }


def _only(found: pd.DataFrame, key: dict) -> float:
    if len(found) > 1:
        raise UserError(
            f"{key['model']}: {len(found)} perplexities for {found['method'].iloc[0]} {found['pattern'].iloc[0]} on "
            "the same text; write one report per seed"
        )
    return float(found["perplexity"].iloc[0]) if len(found) else float("nan")


def role_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per role, then one for all of them, for each model, target, tokens, method, pattern and target sparsity.

    `mean_*` are cycles per layer of that role; the line "all" is the mean over every layer of the model.
    `cycles_share`: the role's share of the model's cycles, 0..1.
    """
    lines = []
    for key, group in groups(checked(rows), KEYS):
        whole = total(counted(group)["cycles"])
        parts = [(role["role"], part) for role, part in groups(group, ["role"])]
        parts = sorted(parts, key=lambda item: role_rank(item[0]))
        for role, part in [*parts, (ALL_ROLES, group)]:
            sums = _sums(part)
            layers = sums["layers"]
            for name in ("dense_cycles", "cycles", "published_dense_cycles"):
                sums[f"mean_{name}"] = ratio(sums[name], layers)
            shares = {"cycles_share": ratio(sums["cycles"], whole)}
            lines.append({**key, "role": role, "shapes": _shapes(part) if role != ALL_ROLES else "", **sums, **shares})
    return pd.DataFrame(lines)


def _shapes(rows: pd.DataFrame) -> str:
    """ "out x in" of the layers; at most three, then how many more."""
    shapes = [f"{o} x {i}" for o, i in dict.fromkeys(zip(rows["out_features"], rows["in_features"], strict=True))]
    return ", ".join(shapes[:3]) + (f", and {len(shapes) - 3} more" if len(shapes) > 3 else "")


def layer_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per layer: what it is, where its cycles go, what it gains, why it cannot run."""
    rows = checked(rows)
    shapes = [f"{o} x {i}" for o, i in zip(rows["out_features"], rows["in_features"], strict=True)]
    before, after = [*KEYS, "block", "role", "layer"], ["sparsity", "dense_cycles", "cycles", "speedup"]
    rest = ["compute_speedup", "published_speedup", "ideal_cycles", "imbalance_cycles", "stall_cycles", "utilisation"]
    table = rows[[*before, *after, *rest, "bound", "feasible", "reason"]].copy()
    table.insert(len(before), "shapes", shapes)
    return table


def infeasible_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per reason why layers are not counted, with how many layers it holds for."""
    rows = checked(rows)
    out = rows.drop(counted(rows).index)
    reason = out["reason"].where(out["reason"] != "", "its cycles are missing from the result rows")
    keys = [*KEYS, "reason"]
    lines = [{**key, "infeasible_layers": len(part)} for key, part in groups(out.assign(reason=reason), keys)]
    return pd.DataFrame(lines, columns=[*keys, "infeasible_layers"])


def levels_table(rows: pd.DataFrame) -> pd.DataFrame:
    """The two levels side by side per role: a publication's own formula against our cycle model.

    Only layers that both levels count enter, with the same mask and the same tokens. Cycles are means per layer.
    Empty when no layer was run at both levels.
    """
    used = counted(checked(rows))
    same = ["model", *MASKS, "tokens", "role", "block", "layer", "mask_sha256"]
    same += ["out_features", "in_features", "nnz"]
    kept = ["target", "cycles", "dense_cycles", "published_dense_cycles", "compute_cycles", "dense_compute_cycles"]
    paper, cycle = (used.loc[used["level"] == level, [*same, *kept, "stall_cycles"]] for level in ("paper", "cycle"))
    pairs = paper.merge(cycle, on=same, suffixes=("_paper", "_cycle"))
    lines = []
    for key, group in groups(pairs, ["model", "target_paper", "target_cycle", "tokens", *MASKS]):
        parts = sorted(((k["role"], part) for k, part in groups(group, ["role"])), key=lambda item: role_rank(item[0]))
        lines += [{**key, "role": role, **_two_levels(part)} for role, part in [*parts, (ALL_ROLES, group)]]
    return pd.DataFrame(lines)


def _two_levels(pairs: pd.DataFrame) -> dict[str, float]:
    """Means per layer and speedups of the same layers at both levels."""
    sums = {name: total(pairs[name]) for name in pairs.columns if "cycles_" in name}
    layers = len(pairs)
    return {
        "layers": layers,
        "sparsity": sparsity_of(pairs),
        "paper_dense_cycles": sums["dense_cycles_paper"] / layers,
        "paper_cycles": sums["cycles_paper"] / layers,
        "published_speedup": ratio(sums["published_dense_cycles_paper"], sums["cycles_paper"]),
        "paper_speedup": ratio(sums["dense_cycles_paper"], sums["cycles_paper"]),
        "cycle_compute_speedup": ratio(sums["dense_compute_cycles_cycle"], sums["compute_cycles_cycle"]),
        "cycle_speedup": ratio(sums["dense_cycles_cycle"], sums["cycles_cycle"]),
        "cycle_dense_cycles": sums["dense_cycles_cycle"] / layers,
        "cycle_cycles": sums["cycles_cycle"] / layers,
        "cycle_stall_share": ratio(sums["stall_cycles_cycle"], sums["cycles_cycle"]),
    }
