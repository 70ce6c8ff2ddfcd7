"""Result rows on stdout or in a file: json, csv or a table."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from workloads.errors import unknown
from workloads.files import write_text

if TYPE_CHECKING:
    import pandas as pd


def whole(kind: type, tokens: Sequence[Any]) -> int:
    """Command-line integers as written: 1.5 is a mistake, not 1."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is no whole number") from None


Whole = Annotated[int, Parameter(converter=whole)]
FORMATS = ("json", "csv", "table")


def check_format(name: str, formats: Sequence[str] = FORMATS) -> None:
    if name not in formats:
        raise unknown("format", name, formats)


def emit(frame: "pd.DataFrame", form: str, out: Path | None, columns: tuple[str, ...]) -> None:
    """Prints the rows, or writes them to `out`; the table shows only `columns`. Raises NothingRan, once they are
    written, where every row is infeasible."""
    from studies.gaps import check_any_ran  # with pandas, which verbs that make no rows do without
    from workloads.csv_text import csv_text
    from workloads.rows import to_records

    if form == "json":
        text = json.dumps(to_records(frame), indent=1, allow_nan=False) + "\n"
    elif form == "csv":
        text = csv_text(frame)
    else:
        shown = frame[[column for column in columns if column in frame]]
        text = _printed(shown)
    if out is None:
        sys.stdout.write(text)
    else:
        write_text(out, text)
        sys.stderr.write(f"wrote {out}\n")
    check_any_ran(frame)


def _printed(shown: "pd.DataFrame") -> str:
    """Four digits of a number; nothing where a row lacks a value."""
    from pandas.api.types import is_extension_array_dtype, is_numeric_dtype

    table = shown.copy()
    for name in [name for name in shown if is_extension_array_dtype(shown[name].dtype) and shown[name].hasnans]:
        # pandas prints <NA> whatever it is asked for, and numbers below a heading that begins with a space.
        table[name] = shown[name].astype(object).where(shown[name].notna(), "")
        if is_numeric_dtype(shown[name].dtype):
            table = table.rename(columns={name: f" {name}"})
    return table.to_string(index=False, na_rep="", float_format=lambda value: f"{value:.4g}") + "\n"
