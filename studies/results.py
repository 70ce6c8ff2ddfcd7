"""Results where they lie: a file of rows, or the folder of a run or report."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from studies.report import read_rows
from workloads.columns.column import Column
from workloads.columns.inference import INFERENCE_COLUMNS, OPERATION_COLUMNS, PUBLISHED_OPERATOR_COLUMNS
from workloads.columns.layers import LAYER_COLUMNS
from workloads.columns.quality import QUALITY_COLUMNS
from workloads.errors import UserError
from workloads.files import parse_json

# What tells files of whole models, and of their operations, from those of layers.
TOLD_BY = (
    ({"tokens_per_s", "prefill_ms"}, INFERENCE_COLUMNS),
    ({"operation", "executions", "latency_us", "phase"}, OPERATION_COLUMNS),
)
FILES = {
    "rows.csv": LAYER_COLUMNS, "quality.csv": QUALITY_COLUMNS, "inference.csv": INFERENCE_COLUMNS,
    "operations.csv": OPERATION_COLUMNS, "published-operators.csv": PUBLISHED_OPERATOR_COLUMNS,
}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """Rows of layers, perplexities, rows of whole models and of their operations, published times of single operators;
    None where there are none."""

    rows: pd.DataFrame | None = None
    quality: pd.DataFrame | None = None
    inference: pd.DataFrame | None = None
    operations: pd.DataFrame | None = None
    operators: pd.DataFrame | None = None

    @property
    def count(self) -> int:
        return sum(len(each) for each in (self.rows, self.inference, self.operations) if each is not None)


def read_result(path: Path) -> Found:
    """What a folder holds of FILES, or the rows of a file, whatever they are of. Raises UserError where there are
    none."""
    if not path.is_dir():
        columns = columns_of(path)
        return found_of(read_rows(path, columns), columns)
    there = {name: read_rows(path / name, columns) for name, columns in FILES.items() if (path / name).exists()}
    if not there:
        raise UserError(f"{path} holds none of {', '.join(FILES)}; give the folder of a run or of a report")
    return Found(*(there.get(name) for name in FILES))


def found_of(frame: pd.DataFrame, columns: tuple[Column, ...]) -> Found:
    if columns is INFERENCE_COLUMNS:
        return Found(inference=frame)
    return Found(operations=frame) if columns is OPERATION_COLUMNS else Found(rows=frame)


def columns_of(path: Path) -> tuple[Column, ...]:
    """Those of rows of layers, unless the names in the file tell otherwise."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        names = set(_first_record(text) if text.lstrip()[:1] in ("[", "{") else next(csv.reader(io.StringIO(text)), []))
    except (OSError, ValueError, csv.Error):  # as read_rows will say
        return LAYER_COLUMNS
    return told_columns(names)


def told_columns(names: set[str]) -> tuple[Column, ...]:
    return next((columns for told, columns in TOLD_BY if told <= names and "layer" not in names), LAYER_COLUMNS)


def _first_record(text: str) -> Sequence[str]:
    records = parse_json(text)
    return list(records[0]) if isinstance(records, list) and records and isinstance(records[0], dict) else []


def joined(frames: Sequence[pd.DataFrame | None]) -> pd.DataFrame | None:
    """All of them below one another, lines that are alike in everything once; None of none."""
    given = [frame for frame in frames if frame is not None]
    if len(given) < 2:
        return given[0] if given else None
    return pd.concat(given, ignore_index=True).drop_duplicates(ignore_index=True)
