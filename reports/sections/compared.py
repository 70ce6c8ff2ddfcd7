"""Methods side by side at one target."""

import pandas as pd

from reports.contents import Contents
from reports.limits import MOST_COMPARED
from reports.section import PAPER, READ, TERMINAL, Section, Table, Text, some_of
from reports.tables.compare import compare_columns, compare_csv, perplexity_line
from reports.tables.sums import KERNEL
from reports.words.naming import config_text

_OPEN = 2  # tables up to which all start open
APART = 0.0005  # of sparsities that count as one


def compared(contents: Contents) -> Section | None:
    tables = contents.compared
    if not tables:
        return None
    read = some_of([_table(key, table, len(tables) > _OPEN) for key, table in tables], "compared.csv")
    if len(tables) == MOST_COMPARED:
        read.append(Text(f"compared.csv ends after {MOST_COMPARED} tables; roles.csv has every method.", quiet=True))
    narrow = [_narrow(key, table) for key, table in tables]
    files = {"compared.csv": compare_csv(tables)}
    return Section("Methods side by side", [*read, *narrow], files=files, details=True)


def _table(key: dict, table: pd.DataFrame, fold: bool) -> Table:
    columns, said = compare_columns(table), compared_text(key) + apart_text(table)
    below = perplexity_line(table, columns)
    told = {name: key[name] for name in ("model", "target", "tokens", "pattern", "target_sparsity")}
    return Table(
        table.assign(**told),
        columns,
        said,
        label="compared-",
        paper_caption=f"{said}.",
        below=below,
        total_in="role",
        fold=fold or None,
        only=READ | PAPER,
    )


def _narrow(key: dict, table: pd.DataFrame) -> Table:
    columns = [name for name in compare_columns(table) if name != "shapes" and "published" not in name]
    return Table(table, columns, compared_text(key) + apart_text(table), below=perplexity_line(table, columns),
                 only=TERMINAL)  # fmt: skip


def compared_text(key: dict) -> str:
    """The caption of a table of `compare_tables`."""
    asked = key["target_sparsity"]
    pattern = key["pattern"] if pd.isna(asked) or ":" in key["pattern"] else f"{key['pattern']} {100 * asked:g} %"
    out = key["left_out"]
    left = f"; {out} layers that not every method can run here are left out" if out else ""
    what = "time" if key["level"] == KERNEL else "cycles"
    return f"{config_text(key)}, {pattern}: mean {what} per layer{left}"


def apart_text(table: pd.DataFrame) -> str:
    """That the methods of a table of `compare_tables` did not reach one sparsity, so that speedups and perplexities are
    not for the same number of weights; "" where they did."""
    whole = table.iloc[-1]
    reached = {name.removesuffix("@sparsity"): whole[name] for name in table.columns if name.endswith("@sparsity")}
    known = {method: float(value) for method, value in reached.items() if pd.notna(value)}
    if not known or max(known.values()) - min(known.values()) <= APART:
        return ""
    return "; sparsities differ: " + ", ".join(f"{method} {100 * value:.2f} %" for method, value in known.items())
