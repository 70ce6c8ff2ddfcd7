"""The data of a page: the lines of its charts and of its long tables, once, as compressed JSON.

A column of a table is its different cells in the order they sort in and, for every line, the number of its cell: a
page compares numbers of cells and formats nothing itself."""

import base64
import gzip
import json
import math
import re
from typing import Any

import numpy as np
import pandas as pd

from reports.section import Table
from reports.tables.sums import ALL_ROLES
from reports.words.headings import heading
from reports.words.present import Cell, distinct, filled

_DIGITS = 6  # of a number in a chart


def packed(data: dict) -> str:
    """Base64 of gzip of JSON; equal data give equal letters."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode("ascii")


def chart_columns(spec: dict, frame: pd.DataFrame) -> dict[str, list]:
    """The columns of the frame that the chart speaks of, as JSON has them."""
    names = fields(spec)
    return {name: _column_as_json(frame[name]) for name in frame.columns if name in names}


def fields(spec: Any) -> set[str]:
    """Every column that a Vega-Lite chart reads."""
    text = json.dumps(spec)
    return set(re.findall(r'"(?:field|sort)": "([^"]+)"', text)) | set(re.findall(r"datum\.(\w+)", text))


def _column_as_json(values: pd.Series) -> list:
    if pd.api.types.is_string_dtype(values.dtype) and values.notna().all():
        return values.tolist()
    if values.dtype == np.float64:
        return [_number(value) for value in values.tolist()]
    return [_plain(value) for value in values.tolist()]


def _plain(value: Any) -> Any:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return None
    if isinstance(value, int | np.integer):
        return int(value)
    return _number(float(value))


def _number(number: float) -> float | None:
    return float(f"{number:.{_DIGITS}g}") if math.isfinite(number) else None


def table_data(table: Table) -> dict:
    """heads: (text, is a number, meaning, is shown at once); columns: {t: texts, w: those worse than dense, i: of each
    line}, a missing cell last; whole: the lines that sum up others."""
    frame, names = table.units(table.frame) if table.units else (table.frame, {})
    columns = filled(frame, [names.get(name, name) for name in table.columns], table.known)
    main = {names.get(name, name) for name in table.main}
    heads = [heading(column, table.known) for column in columns]
    data: dict[str, Any] = {
        "heads": [
            [head.flat, head.numeric, head.meaning, not main or column in main]
            for head, column in zip(heads, columns, strict=True)
        ],
        "columns": [_column(*distinct(frame, column, table.known)) for column in columns],
        "lines": len(frame),
    }
    if table.total_in:
        data["whole"] = np.flatnonzero(frame[table.total_in].eq(ALL_ROLES)).tolist()
    return data


def _column(cells: list[Cell], codes: np.ndarray) -> dict:
    order = _order(cells)
    place = np.empty(len(cells), dtype=np.intp)
    place[order] = np.arange(len(cells))
    found: dict[str, Any] = {"t": [cells[number].text for number in order], "i": place[codes].tolist()}
    if worse := [number for number, old in enumerate(order) if cells[old].worse]:
        found["w"] = worse
    if missing := [number for number, old in enumerate(order) if cells[old].sort is None]:
        found["m"] = missing
    return found


def _order(cells: list[Cell]) -> list[int]:
    """The numbers of the cells as they sort."""
    if not any(isinstance(cell.sort, str) for cell in cells):
        return np.argsort([np.nan if cell.sort is None else cell.sort for cell in cells], kind="stable").tolist()
    return sorted(range(len(cells)), key=lambda number: _rank(cells[number]))


def _rank(cell: Cell) -> tuple:
    """Missing last; numbers by value; texts with the numbers in them by value."""
    if cell.sort is None:
        return (2,)
    if isinstance(cell.sort, float | int):
        return (0, float(cell.sort))
    parts = re.split(r"(\d+)", cell.sort.lower())
    return (1, [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts])
