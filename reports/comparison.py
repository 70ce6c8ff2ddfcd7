"""Two results side by side: the lines that moved, as every other table of a report."""

import pandas as pd
from rich.console import Console

from reports.limits import MOST_SENTENCES
from reports.render.markdown import markdown_table
from reports.render.terminal import print_table
from reports.section import Table
from reports.tables.moved import AFTER, BEFORE, VALUES
from reports.words.units import with_time_unit

_COLUMNS = [
    *("model", "target", "settings", "tokens", "activation_density", "method", "pattern", "target_sparsity"),
    *(f"{side}@{name}" for name in VALUES if name != "energy_pj" for side in (BEFORE, AFTER)),
    *("time_change", "perplexity_change", "why"),
]


def comparison_text(moved: pd.DataFrame) -> str:
    """One sentence: how many lines moved, and the largest change of time."""
    lines = moved[moved["moved"]]
    said = f"{len(lines):,} of {len(moved):,} lines moved"
    known = lines.get("time_change", pd.Series(dtype=float)).dropna()
    if len(known) and known.abs().max() > 0:
        most = lines.loc[known.abs().idxmax()]
        run = f"{most['method']} {most['pattern']} on {most['target']}"
        said += f", the most {run}: time {100 * most['time_change']:+.1f} %"
    return said


def comparison_table(moved: pd.DataFrame) -> Table:
    return Table(moved[moved["moved"]], _COLUMNS, caption=comparison_text(moved), units=with_time_unit,
                 most_in_text=MOST_SENTENCES)  # fmt: skip


def print_comparison(moved: pd.DataFrame, console: Console) -> None:
    if moved["moved"].any():
        print_table(comparison_table(moved), console)
    else:
        console.print(comparison_text(moved))


def markdown_comparison(moved: pd.DataFrame) -> str:
    return f"{comparison_text(moved)}\n\n{markdown_table(comparison_table(moved))}"
