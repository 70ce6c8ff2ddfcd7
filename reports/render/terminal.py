"""What a report shows first, in a terminal."""

import pandas as pd
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reports.columns import COMPARED_SOURCES_COLUMNS, quality_columns
from reports.explain import compared_text, config_text, designs_verdict, quality_text
from reports.render.documents import named
from reports.tables.compare import compare_columns, compare_tables, perplexity_line
from reports.tables.designs import design_tables, split
from reports.tables.gemms import error_sentences, sources_table
from reports.tables.layers import headline_table, role_table
from reports.tables.quality import perplexity_table, quality_tables
from reports.tables.sums import KERNEL, KEYS, checked, groups, known
from reports.words.headings import heading
from reports.words.present import cells, filled
from reports.words.settings import settings_text
from reports.words.units import in_units, with_time_unit

COLUMNS = [
    *("model", "target", "settings", "tokens", "activation_density", "method", "pattern", "sparsity", "speedup"),
    *(
        "latency_us",
        "compute_speedup",
        "energy_ratio",
        "published_speedup",
        "perplexity",
        "seeds",
        "infeasible_layers",
        "no_baseline_layers",
    ),
]
DESIGN_COLUMNS = [
    *("design_settings", "method", "pattern", "latency_us", "speedup", "energy_pj", "energy_ratio", "edp_pj_us"),
    *("area_mm2", "front", "infeasible_layers", "no_baseline_layers"),
]

ROLE_COLUMNS = [
    "role",
    "layers",
    "shapes",
    "sparsity",
    "mean_dense_cycles",
    "mean_cycles",
    "mean_dense_latency_us",
    "mean_latency_us",
    "speedup",
    "published_speedup",
]
SHORT = {
    "compute_speedup": "Compute only",
    "published_speedup": "vs published",
    "activation_density": "Inputs (%)",
    "front": "Front",
}
_WRAPPED = ("settings", "design_settings")
_DESIGNS = 10  # lines of a sweep, or of a comparison of sources, that a terminal shows


def print_report(rows: pd.DataFrame | None, quality: pd.DataFrame | None, console: Console, few: int) -> None:
    """The fastest designs of each sweep and the headline, then methods side by side or, of a single method, its roles, if those
    are at most `few` tables; the table of perplexities of a report that has nothing else."""
    perplexities = perplexity_table(quality)
    if rows is None:
        for key, table in quality_tables(perplexities):
            console.print(printed(table, filled(table, quality_columns(table)), quality_text(key)))
        return
    rows = checked(rows)
    print_sources(sources_table(rows), console)
    rows, swept = split(rows[(rows["source"] != "published") | known(rows)])
    for key, table in [] if swept.empty else design_tables(swept):
        print_designs(key, table, console)
    if rows.empty:
        return
    print_headline(headline_table(rows, quality), console)
    compared = list(compare_tables(rows, perplexities))
    if 0 < len(compared) <= few:
        for key, table in compared:
            shown = [name for name in compare_columns(table) if name != "shapes" and "published" not in name]
            console.print(printed(table, shown, compared_text(key), perplexity_line(table, shown)))
    elif not compared and len(rows.drop_duplicates(KEYS)) <= few:
        print_roles(role_table(rows), console)


def print_sources(table: pd.DataFrame, console: Console) -> None:
    """Prints the top of what `sources_table` returns, and how far predictions are off."""
    if table.empty:
        return
    shown = filled(table, [name for name in COMPARED_SOURCES_COLUMNS if name not in ("where", "target")])
    more = f", the first {_DESIGNS} of {len(table):,} lines" if len(table) > _DESIGNS else ""
    console.print(printed(table.head(_DESIGNS), shown, f"One GEMM by each source{more}"))
    for sentence in error_sentences(table):
        console.print(Text(sentence))
    console.print()


def print_designs(key: dict, table: pd.DataFrame, console: Console) -> None:
    """Prints the top of a table of `design_tables`."""
    shown, names = in_units(table.head(_DESIGNS))
    more = f"; the fastest {len(shown)} of {len(table):,} lines" if len(table) > len(shown) else ""
    columns = filled(shown, named(DESIGN_COLUMNS, names))
    console.print(printed(shown, columns, f"{config_text(key)}: designs{more}"))
    console.print(Text(f"{designs_verdict(table)[0]}.\n"))


def print_headline(table: pd.DataFrame, console: Console) -> None:
    """Prints what `headline_table` returns; what is worse than dense in red, and in words. What is the same in every line (one model,
    one dense perplexity) stands in the title."""
    shared = {
        name: table[name].iloc[0] for name in ("model", "dense_perplexity") if table[name].nunique(dropna=False) == 1
    }
    table, names = with_time_unit(table)
    columns = [column for column in filled(table, named(COLUMNS, names)) if column not in shared]
    title = [str(shared.get("model", "whole models")), "speedup = dense time / time of the same target"]
    title += ["energy ratio = dense energy / energy"] if "energy_ratio" in columns else []
    if pd.notna(shared.get("dense_perplexity")):
        title.append(f"dense perplexity {shared['dense_perplexity']:.2f}")
    console.print(printed(table, columns, ", ".join(title)))


def print_roles(table: pd.DataFrame, console: Console) -> None:
    """Prints what `role_table` returns, a table for each mask and target; cycles, or times of GPU kernels, are means per layer."""
    for key, lines in groups(table, KEYS):
        on = f"{key['target']} {settings_text(key['settings'])}".strip()
        what, without = ("time", "cycles") if key["level"] == KERNEL else ("cycles", "latency_us")
        title = f"{key['model']}, {key['method']} on {on}, tokens {key['tokens']}: mean {what} per layer"
        shown = [column for column in ROLE_COLUMNS if not column.endswith(without)]
        console.print(printed(lines, filled(lines, shown), title))


def printed(table: pd.DataFrame, columns: list[str], title: str, below: list[tuple[str, int]] | None = None) -> Table:
    """A rich table that wraps nothing but settings; `below`: (text, columns it spans) of a last line."""
    result = Table(title=Text(title), title_justify="left", box=SIMPLE, pad_edge=False)
    for column in columns:
        head = heading(column)
        text = f"{head.group}\n{head.text}".strip() if head.group else SHORT.get(column, head.text)
        result.add_column(Text(text), justify="right" if head.numeric else "left", no_wrap=column not in _WRAPPED)
    for line in cells(table, columns):
        # Text, not str: a model called "[red]" must not colour anything.
        result.add_row(*(Text(c.text, style="bold red" if c.worse else "") for c in line))
    if below:
        result.add_section()
        result.add_row(*(Text(text) for said, width in below for text in [said, *[""] * (width - 1)]))
    return result
