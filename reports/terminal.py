"""The headline table in a terminal."""

import pandas as pd
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reports.present import cells, filled, heading
from reports.tables import KEYS, groups

COLUMNS = [
    *("model", "target", "tokens", "method", "pattern", "sparsity", "speedup", "compute_speedup"),
    *("published_speedup", "perplexity", "infeasible_layers"),
]

ROLE_COLUMNS = [
    "role",
    "layers",
    "shapes",
    "sparsity",
    "mean_dense_cycles",
    "mean_cycles",
    "speedup",
    "published_speedup",
]
SHORT = {
    "compute_speedup": "Compute only",
    "published_speedup": "vs published",
}


def print_headline(table: pd.DataFrame, console: Console) -> None:
    """Prints what `headline_table` returns; slowdowns in red, and in words. What is the same in every line (one model,
    one dense perplexity) stands in the title."""
    shared = {
        name: table[name].iloc[0] for name in ("model", "dense_perplexity") if table[name].nunique(dropna=False) == 1
    }
    columns = [column for column in filled(table, COLUMNS) if column not in shared]
    title = [str(shared.get("model", "whole models")), "speedup = dense cycles / cycles"]
    if pd.notna(shared.get("dense_perplexity")):
        title.append(f"dense perplexity {shared['dense_perplexity']:.2f}")
    console.print(printed(table, columns, ", ".join(title)))


def print_roles(table: pd.DataFrame, console: Console) -> None:
    """Prints what `role_table` returns, a table for each mask and target; cycles are means per layer."""
    for key, lines in groups(table, KEYS):
        title = f"{key['model']}, {key['method']} on {key['target']}, tokens {key['tokens']}: mean cycles per layer"
        console.print(printed(lines, filled(lines, ROLE_COLUMNS), title))


def printed(table: pd.DataFrame, columns: list[str], title: str) -> Table:
    """A rich table without wrapping."""
    result = Table(title=Text(title), title_justify="left", box=SIMPLE, pad_edge=False)
    for column in columns:
        head = heading(column)
        result.add_column(Text(SHORT.get(column, head.text)), justify="right" if head.numeric else "left", no_wrap=True)
    for line in cells(table, columns):
        # Text, not str: a model called "[red]" must not colour anything.
        result.add_row(*(Text(c.text, style="bold red" if c.slower else "") for c in line))
    return result
