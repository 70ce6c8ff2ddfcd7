"""Tables of shapes as people have them: CSV with commas, semicolons or tabs, blanks, commas at the end of lines."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from simulator.gpu.sizes import MAX_SIZE
from workloads.errors import UserError, one_line

_SHOWN = 40  # characters of a field that a message repeats

Line = tuple[int, list[str]]  # its number in the file, from 1, and its fields


def read_lines(path: Path, what: str) -> tuple[list[str], list[Line]]:
    """(names of the columns, lines with as many fields). Raises UserError for a file that is none, a column that stands
    twice, a line that does not fit the header, and no lines."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read {what} from {path}: {getattr(error, 'strerror', None) or one_line(error)}"
        ) from None
    try:
        (_, header), *lines = _fields(text)
    except (ValueError, csv.Error) as error:
        reason = one_line(error) if text.strip() else "it is empty"
        raise UserError(f"{path} is not a CSV file: {reason}") from None
    names = _names(path, header)
    if not lines:
        raise UserError(f"{path} has a header and no rows")
    return names, [(number, _fitting(path, number, fields, len(names))) for number, fields in lines]


def _fields(text: str) -> list[Line]:
    """The lines that hold anything, parted by what the first of them holds most of: commas, semicolons or tabs."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    mark = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=mark, skipinitialspace=True, strict=True)
    return [
        (reader.line_num, [field.strip() for field in fields]) for fields in reader if any(f.strip() for f in fields)
    ]


def _names(path: Path, header: list[str]) -> list[str]:
    names = header[:-1] if header[-1] == "" else header
    twice = next((name for name in names if [each.lower() for each in names].count(name.lower()) > 1), None)
    if twice is not None:
        raise UserError(f"{path} has the column {twice!r} twice")
    return names


def _fitting(path: Path, number: int, fields: list[str], count: int) -> list[str]:
    """Without what stands behind a comma at the end: nothing, or a remark."""
    if len(fields) == count + 1 and (fields[-1] == "" or fields[-1].startswith("#")):
        fields = fields[:-1]
    if len(fields) != count:
        raise UserError(f"{path} line {number}: {len(fields)} fields, the header has {count}")
    return fields


def typed(names: Sequence[str], rows: Sequence[Sequence[str]], texts: Sequence[str]) -> pd.DataFrame:
    """The columns as pandas reads them; `texts` stay what they are."""
    stream = io.StringIO()
    csv.writer(stream).writerows([names, *rows])
    stream.seek(0)
    return pd.read_csv(stream, dtype=dict.fromkeys(texts, str), skip_blank_lines=False)


def whole_size(value: str, where: str, least: int = 1, most: int = MAX_SIZE) -> int:
    """3 and "3.0" are sizes, "3.5", "", 0 and -1 are not. Raises UserError starting with `where`."""
    text = value.strip()
    if not re.fullmatch(r"[+-]?\d{1,15}(\.0*)?", text):
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text):,} characters)"
        raise UserError(f"{where} = {shown!r}; sizes are whole numbers from {least} to {most}")
    number = int(text.split(".")[0])
    if not least <= number <= most:
        raise UserError(f"{where} = {number}; sizes go from {least} to {most}")
    return number
