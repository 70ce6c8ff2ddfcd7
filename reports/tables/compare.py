"""Methods side by side at one target: a line per role, cycles, sparsity and speedup of each method, perplexity
below."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from reports.tables.layers import role_table
from reports.tables.quality import beside
from reports.tables.sums import ALL_ROLES, CONFIG, checked, groups, known, numbered
from reports.words.headings import heading
from reports.words.present import cell, filled

SAME = [*CONFIG, "pattern", "target_sparsity"]
# What each method gets a column of, named "METHOD@column"; the unpruned model has "dense@..." ones.
OF_METHOD = ["mean_cycles", "mean_latency_us", "sparsity", "speedup", "published_speedup"]
OF_DENSE = {
    "dense@mean_cycles": "mean_dense_cycles",
    "dense@mean_latency_us": "mean_dense_latency_us",
    "dense@mean_published_dense_cycles": "mean_published_dense_cycles",
}
SPREADS = ["mean_cycles_spread", "mean_latency_us_spread", "speedup_spread"]
_SIDE_BY_SIDE = 4  # methods a page is wide enough for


def compare_tables(rows: pd.DataFrame, perplexities: pd.DataFrame) -> Iterator[tuple[dict, pd.DataFrame]]:
    """(what the methods share: SAME, and `left_out` layers; table) wherever several methods were run at one target.

    Lines are the roles and then all of them; columns role, layers, shapes, OF_DENSE, and for each method OF_METHOD with
    their spreads over seeds. The line of all roles also has dense@perplexity and METHOD@perplexity with its spread,
    from what `perplexity_table` returns. Only layers that every one of the methods can run enter, so that all are held
    against the same dense cycles. More methods than fit side by side fill several tables."""
    rows = checked(rows)
    place, each = numbered(rows, SAME)
    layers, methods = (rows[name].groupby(place).transform("nunique") for name in ("layer", "method"))
    at = [place, rows["layer"]]
    every = rows["method"].groupby(at).transform("nunique") == methods
    shared = rows[known(rows).groupby(at).transform("all") & every & (methods > 1)]
    if shared.empty:
        return
    all_layers = dict(zip(place, layers, strict=True))
    for number, roles in groups(role_table(shared).assign(_place=lambda t: _places(t, each)), ["_place"]):
        key = each.iloc[number["_place"]].to_dict()
        methods_here = list(dict.fromkeys(roles["method"]))
        found = {method: beside({**key, "method": method}, perplexities) for method in methods_here}
        out = all_layers[number["_place"]] - _layers_of(roles)
        tables = -(-len(methods_here) // _SIDE_BY_SIDE)
        width = -(-len(methods_here) // tables)
        for first in range(0, len(methods_here), width):
            table = _table(roles, {method: found[method] for method in methods_here[first : first + width]})
            yield {**key, "left_out": out}, table


def _layers_of(roles: pd.DataFrame) -> int:
    """How many layers were compared: all of them count, in every method."""
    return int(roles.loc[roles["role"] == ALL_ROLES, "layers"].iloc[0])


def _places(table: pd.DataFrame, each: pd.DataFrame) -> np.ndarray:
    """The line of `each` that a line of `table` has the SAME of."""
    found = pd.concat([each, table[SAME]], ignore_index=True)
    return numbered(found, SAME)[0][len(each) :]


def _table(roles: pd.DataFrame, found: dict[str, dict]) -> pd.DataFrame:
    """`found`: the methods to show, with their perplexities."""
    first = roles[roles["method"] == next(iter(found))].reset_index(drop=True)
    columns = {name: first[name] for name in ("role", "layers", "shapes")}
    columns |= {name: first[column] for name, column in OF_DENSE.items()}
    last = first["role"] == ALL_ROLES
    for method, quality in found.items():
        mine = roles[roles["method"] == method].reset_index(drop=True)
        columns |= {f"{method}@{column}": mine[column] for column in [*OF_METHOD, *SPREADS]}
        columns[f"{method}@speedup_verdict"] = mine["verdict"]
        columns["dense@perplexity"] = _at(last, quality["dense_perplexity"])
        columns |= {f"{method}@{name}": _at(last, quality[name]) for name in ("perplexity", "perplexity_spread")}
    return pd.DataFrame(columns)


def _at(lines: pd.Series, value: float) -> pd.Series:
    """The value in these lines, nothing in the others."""
    return pd.Series(np.where(lines, value, np.nan), index=lines.index)


def compare_columns(table: pd.DataFrame) -> list[str]:
    """The columns a page shows of such a table, in their order; latencies only where there are no cycles."""
    methods = [column.removesuffix("@speedup") for column in table.columns if column.endswith("@speedup")]
    columns = ["role", "shapes", *OF_DENSE, *(f"{method}@{column}" for method in methods for column in OF_METHOD)]
    without = "mean_cycles" if table["dense@mean_cycles"].isna().all() else "mean_latency_us"
    return filled(table, [column for column in columns if not column.endswith(f"@{without}")])


def perplexity_line(table: pd.DataFrame, columns: list[str]) -> list[tuple[str, int]]:
    """(text, columns it spans) from left to right: the line to print below the table; [] where no perplexity is
    known."""
    whole = table.iloc[-1]
    if whole[[name for name in table.columns if name.endswith("@perplexity")]].isna().all():
        return []
    line: list[tuple[str, int]] = []
    before = ""
    for column in columns:
        group = heading(column).group
        if group and group == before:
            line[-1] = line[-1][0], line[-1][1] + 1
        elif group:
            spread = whole.get(f"{group}@perplexity_spread")
            line.append((cell("perplexity", whole[f"{group}@perplexity"], spread).text, 1))
        else:
            line.append(("perplexity" if column == "role" else "", 1))
        before = group
    return line


def compare_csv(tables: list[tuple[dict, pd.DataFrame]]) -> pd.DataFrame:
    """All of the tables as one, what the methods share in front of every line."""
    parts = [table.assign(**{name: key[name] for name in SAME})[[*SAME, *table.columns]] for key, table in tables]
    return pd.concat(parts, ignore_index=True)
