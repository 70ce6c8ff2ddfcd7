"""Every layer: what it is, where its time goes, what it gains, why it cannot run."""

import pandas as pd

from reports.contents import Contents
from reports.limits import MOST_LAYERS
from reports.section import PAGE, Section, Table
from reports.sections.roles import PLACE
from reports.tables.layers import layer_table, own_columns
from reports.tables.sums import KERNEL, by
from reports.words.units import with_time_unit

MAIN = [
    *("model", "target", "settings", "tokens", "method", "pattern", "role", "layer", "sparsity", "speedup", "bound"),
    *("dense_cycles", "cycles", "dense_latency_us", "latency_us", "layers_alike", "reason"),
]


def layers(contents: Contents) -> Section | None:
    table = contents.plain if contents.plain.empty else layer_table(contents.plain)
    if table.empty:
        return None
    several, own = table["seed"].nunique(dropna=False) > 1, own_columns(contents.plain)
    tables = [_table(key["level"], lines, own, several, contents) for key, lines in by(table, ["level"])]
    return Section("Per layer", tables)


def _table(level: str, lines: pd.DataFrame, own: list[str], several: bool, contents: Contents) -> Table:
    """The seed only where there are `several`. Where lines are left out, those of the least speedup come first."""
    caption = f"Every layer, {level or 'no'} level"
    if len(lines) > MOST_LAYERS:
        caption += f": the {MOST_LAYERS:,} of {len(lines):,} with the least speedup"
        lines = lines.sort_values("speedup", kind="stable").head(MOST_LAYERS)
    columns = kernel_columns() if level == KERNEL else layer_columns(own)
    return Table(
        lines,
        [*PLACE, *(name for name in columns if name not in PLACE and (several or name != "seed"))],
        caption=caption,
        units=with_time_unit,
        known=contents.known,
        main=MAIN,
        paged=True,
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
