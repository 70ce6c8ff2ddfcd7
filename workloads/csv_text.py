"""Tables as CSV text that a spreadsheet shows and does not run, and back.

A text that begins with = + - @, a tab or a line's end is taken for a formula by spreadsheets, and names of models,
layers and methods come from files of others. Such a text gets an apostrophe in front; so does one that has apostrophes
in front of such a character, so that `read_back` takes off exactly what was put on. Numbers stay as they are."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd

from workloads.errors import UserError, one_line

_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_QUOTED = re.compile(r'[,"\n]')


def csv_text(table: pd.DataFrame) -> str:
    """Every row and column, floats with all their digits, missing values empty; a carriage return, which ends a line of
    CSV, becomes a newline. As `DataFrame.to_csv` writes it, in half its time."""
    header = ",".join(_field(str(name)) for name in table.columns)
    columns = [_fields(table.iloc[:, place]) for place in range(table.shape[1])]
    if len(columns) == 1:  # an empty line would be no line
        columns = [[text or '""' for text in columns[0]]]
    return "\n".join([header, *map(",".join, zip(*columns, strict=True))]) + "\n"


def _fields(column: pd.Series) -> list[str]:
    """The column as fields: of those alike, which most are, one is made."""
    if column.dtype == object:  # 1, 1.0 and True are alike
        return ["" if pd.isna(value) else _said(value) for value in column]
    if column.dtype == np.float64:
        codes, bits = pd.factorize(column.to_numpy().view(np.int64))  # 0.0 and -0.0 are not
        texts = ["" if value != value else str(value) for value in bits.view(np.float64).tolist()]
    else:
        codes, values = pd.factorize(column)
        texts = [_said(value) for value in values]
    return np.array([*texts, ""], dtype=object)[codes].tolist()  # -1, the last: missing


def _said(value: object) -> str:
    return _field(value) if isinstance(value, str) else str(value)


def _field(text: str) -> str:
    text = _neutral(text)
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text


def read_back(table: pd.DataFrame) -> pd.DataFrame:
    """The texts of a table that was read from such CSV as they were."""
    return table.assign(**{n: column.map(found) for n, column in table.items() if (found := _changed(column, _plain))})


def check_fields(path: Path, text: str) -> None:
    """Raises UserError where a name stands twice in the header or a line has more or fewer fields than it."""
    try:
        lines = csv.reader(io.StringIO(text))
        header = next(lines, [])
        if twice := next((name for name in header if header.count(name) > 1), None):
            raise UserError(f"{path} has the column {twice!r} twice")
        for fields in lines:
            if fields and len(fields) != len(header):
                raise UserError(f"{path} line {lines.line_num}: {len(fields)} fields, the header has {len(header)}")
    except csv.Error as error:
        raise UserError(f"{path} is not a CSV file: {one_line(error)}") from None


class _Map(dict):
    """Changes only what it knows."""

    def __missing__(self, key: object) -> object:
        return key


def _changed(column: pd.Series, change) -> _Map:
    """What `change` makes of the different texts in the column, where it makes another."""
    if column.dtype != object and not pd.api.types.is_string_dtype(column.dtype):
        return _Map()
    texts = [value for value in column.unique() if isinstance(value, str)]
    return _Map({text: changed for text in texts if (changed := change(text)) != text})


def _neutral(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if _FORMULA.match(text) else text


def _plain(text: str) -> str:
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
