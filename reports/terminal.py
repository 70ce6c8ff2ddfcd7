"""The headline table in a terminal."""

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reports.present import cells, filled, heading

COLUMNS = [
    *("model", "target", "tokens", "method", "pattern", "sparsity", "speedup", "compute_speedup"),
    *("published_speedup", "perplexity", "dense_perplexity", "infeasible_layers"),
]


def print_headline(table: pd.DataFrame, console: Console) -> None:
    """Prints what `headline_table` returns; slowdowns in red, and in words."""
    columns = filled(table, COLUMNS)
    printed = Table(title="Whole model: dense cycles / cycles", title_justify="left")
    for column in columns:
        head = heading(column)
        printed.add_column(head.text, justify="right" if head.numeric else "left", overflow="fold")
    for line in cells(table, columns):
        # Text, not str: a model called "[red]" must not colour anything.
        printed.add_row(*(Text(c.text, style="bold red" if c.slower else "") for c in line))
    console.print(printed)
