"""Every layer: what it is, where its time goes, what it gains, why it cannot run."""

import pandas as pd

from reports.contents import Contents
from reports.limits import cut, lines_each
from reports.section import PAGE, Section, Table, some_of
from reports.sections.roles import configurations, several_tokens
from reports.tables.layers import layer_table, own_columns
from reports.tables.sums import KERNEL
from reports.words.naming import config_text
from reports.words.units import with_time_unit


def layers(contents: Contents) -> Section | None:
    table = contents.plain if contents.plain.empty else layer_table(contents.plain)
    if table.empty:
        return None
    several, own = table["seed"].nunique(dropna=False) > 1, own_columns(contents.plain)
    each = configurations(table)
    most = lines_each(len(cut(each)[0]))
    tables = [_table(key, lines, own, several, most, contents) for key, lines in each]
    return Section("Per layer", some_of(tables, "rows.csv"))


def _table(key: dict, lines: pd.DataFrame, own: list[str], several: bool, most: int, contents: Contents) -> Table:
    """The seed only where there are `several`. Where lines are left out, those of the least speedup come first."""
    order = ""
    if len(lines) > most:
        lines, order = lines.sort_values("speedup", kind="stable"), ", least speedup first"
    kernels = key["level"] == KERNEL
    columns = kernel_columns() if kernels else layer_columns(own)
    return Table(
        lines,
        [column for column in columns if several or column != "seed"],
        caption=f"{config_text(key)}: per layer{order}",
        shared=("tokens", "method", "pattern") if kernels else (),
        units=with_time_unit,
        fold=several_tokens(lines) if kernels else None,
        known=contents.known,
        only=PAGE,
    )


def kernel_columns() -> list[str]:
    """One line for all layers of a GPU that are alike."""
    return [
        *("tokens", "method", "pattern", "seed", "role", "layer", "layers_alike", "shapes", "sparsity", "speedup"),
        *(
            "dense_latency_us",
            "latency_us",
            "latency_error_p90",
            "extrapolated",
            "kernel",
            "bound",
            "mapping",
            "reason",
        ),
    ]


def layer_columns(own: list[str]) -> list[str]:
    """`own`: columns that targets have of their own."""
    return [
        *("method", "pattern", "seed", "block", "role", "layer", "shapes", "sparsity", "speedup", "compute_speedup"),
        *("energy_ratio", "published_speedup", "dense_cycles", "cycles", "ideal_cycles", "imbalance_cycles"),
        *("stall_cycles", "buffer_stall_cycles", *own, "utilisation", "bound", "reason"),
    ]
