"""Means per layer of each role, for every configuration."""

import pandas as pd

from reports.contents import Contents
from reports.section import PAGE, PAPER, TERMINAL, TEXT, Block, Section, Table, some_of
from reports.sections.verdict import WITHOUT_TOKENS
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
TERMINAL_COLUMNS = [
    *("role", "layers", "shapes", "sparsity", "mean_dense_cycles", "mean_cycles"),
    *("mean_dense_latency_us", "mean_latency_us", "speedup", "published_speedup"),
]


def roles(contents: Contents) -> Section | None:
    table = contents.roles
    if table.empty:
        return None
    on_page = [_on_page(key, lines) for key, lines in configurations(table)]
    each = [_of_one(key, lines) for key, lines in by(table, CONFIG)]
    blocks: list[Block] = [*some_of(on_page, "roles.csv"), *some_of(each, "roles.csv")]
    if not contents.compared:  # in a terminal, of a single method only
        blocks += [_narrow(key, lines) for key, lines in groups(table, KEYS)]
    return Section("Per role", blocks, files={"roles.csv": table}, details=True)


def configurations(table: pd.DataFrame) -> list[tuple[dict, pd.DataFrame]]:
    """The lines of each configuration, those of a GPU's token counts together."""
    found: list[tuple[dict, pd.DataFrame]] = []
    for key, lines in by(table, WITHOUT_TOKENS):
        found += [(key, lines)] if key["level"] == KERNEL else groups(lines, CONFIG)
    return found


def several_tokens(lines: pd.DataFrame) -> bool | None:
    """Whether a GPU's table starts folded: the section of speedups against tokens says it shorter. Else it does where
    it is long."""
    return True if lines["tokens"].nunique() > 1 else None


def _on_page(key: dict, lines: pd.DataFrame) -> Table:
    if key["level"] != KERNEL:
        caption = f"{config_text(key)}: mean cycles per layer"
        return Table(lines, COLUMNS, caption=caption, total_in="role", only=PAGE)
    return Table(
        lines,
        KERNEL_COLUMNS,
        caption=f"{config_text(key)}: mean time per layer",
        shared=("tokens", "method", "pattern"),
        units=with_time_unit,
        total_in="role",
        fold=several_tokens(lines),
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
