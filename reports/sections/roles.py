"""Means per layer of each role, for every configuration."""

import pandas as pd

from reports.contents import Contents
from reports.section import PAGE, PAPER, TERMINAL, TEXT, Block, Section, Table, some_of
from reports.tables.sums import CONFIG, KERNEL, KEYS, by, groups
from reports.words.naming import config_text
from reports.words.settings import settings_text
from reports.words.units import with_time_unit

COLUMNS = [
    *("method", "pattern", "role", "sparsity", "mean_dense_cycles", "mean_cycles", "speedup", "compute_speedup"),
    *("energy_ratio", "edp_ratio", "mean_published_dense_cycles", "published_speedup", "time_share", "stall_share"),
    *("buffer_stall_share", "shapes", "layers", "seeds", "infeasible_layers", "no_baseline_layers"),
]
KERNEL_COLUMNS = [  # where there are latencies and no cycles
    *("tokens", "method", "pattern", "role", "sparsity", "mean_dense_latency_us", "mean_latency_us", "speedup"),
    *("latency_error_p90", "time_share", "kernel", "bound", "shapes", "layers", "seeds"),
    *("infeasible_layers", "no_baseline_layers", "extrapolated_layers"),
]
PLACE = ["model", "target", "settings", "tokens", "activation_density", "source"]  # where a line of a page's table ran
MAIN = [
    *("model", "target", "settings", "tokens", "method", "pattern", "role", "sparsity", "speedup", "energy_ratio"),
    *("mean_dense_cycles", "mean_cycles", "mean_dense_latency_us", "mean_latency_us", "time_share", "stall_share"),
    *("infeasible_layers", "no_baseline_layers"),
]
TERMINAL_COLUMNS = [
    *("role", "layers", "shapes", "sparsity", "mean_dense_cycles", "mean_cycles"),
    *("mean_dense_latency_us", "mean_latency_us", "speedup", "published_speedup"),
]


def roles(contents: Contents) -> Section | None:
    table = contents.roles
    if table.empty:
        return None
    on_page = [_on_page(key["level"], lines) for key, lines in by(table, ["level"])]
    each = [_of_one(key, lines) for key, lines in by(table, CONFIG)]
    blocks: list[Block] = [*on_page, *some_of(each, "roles.csv")]
    if not contents.compared:  # in a terminal, of a single method only
        blocks += [_narrow(key, lines) for key, lines in groups(table, KEYS)]
    return Section("Per role", blocks, files={"roles.csv": table}, details=True)


def _on_page(level: str, lines: pd.DataFrame) -> Table:
    """All configurations of a level as one table."""
    kernels = level == KERNEL
    what, columns = ("time", KERNEL_COLUMNS) if kernels else ("cycles", COLUMNS)
    return Table(
        lines,
        [*PLACE, *(name for name in columns if name not in PLACE)],
        caption=f"Mean {what} per layer, {level or 'no'} level",
        units=with_time_unit if kernels else None,
        total_in="role",
        main=MAIN,
        paged=True,
        file="roles.csv",
        only=PAGE,
    )


def _of_one(key: dict, lines: pd.DataFrame) -> Table:
    kernels = key["level"] == KERNEL
    said = f"{config_text(key)}: mean {'time' if kernels else 'cycles'} per layer"
    known = lines["latency_us"].notna().any() or lines["cycles"].notna().any()
    return Table(
        lines,
        [name for name in KERNEL_COLUMNS if name != "tokens"] if kernels else COLUMNS,
        said,
        label="roles-",
        paper_caption=f"{said} of each role.",
        units=with_time_unit if kernels else None,
        total_in="role",
        only=TEXT | PAPER if known else TEXT,
    )


def _narrow(key: dict, lines: pd.DataFrame) -> Table:
    on = f"{key['target']} {settings_text(key['settings'])}".strip()
    what, without = ("time", "cycles") if key["level"] == KERNEL else ("cycles", "latency_us")
    title = f"{key['model']}, {key['method']} on {on}, tokens {key['tokens']}: mean {what} per layer"
    return Table(lines, [name for name in TERMINAL_COLUMNS if not name.endswith(without)], title, only=TERMINAL)
