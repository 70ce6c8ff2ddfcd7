"""Result rows as frames: every room that produces figures fills the columns of workloads/columns/ and nothing else;
every table, figure and page is made from them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from workloads.columns.column import Column
from workloads.columns.layers import LAYER_COLUMNS
from workloads.errors import UserError
from workloads.files import utf8
from workloads.layers import BESIDE
from workloads.patterns import DENSE

SOURCES = ("simulated", "predicted", "measured", "published")
_DTYPES = {"text": "str", "int": "Int64", "float": "float64", "bool": "bool", "maybe": "boolean"}
_MISSING: dict[str, Any] = {"text": "", "float": float("nan"), "bool": True}


def to_frame(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[Column] = LAYER_COLUMNS, extra: Sequence[Column] = ()
) -> pd.DataFrame:
    """A frame with exactly the schema's columns and dtypes, in the schema's order, and behind them those that a target
    declares of its own, `extra`.

    Raises UserError for a column outside of both or an unknown `source`.
    """
    # As objects: a missing value must not turn whole numbers into floats.
    return in_schema(pd.DataFrame(list(rows), dtype="object"), columns, extra)


def in_schema(
    frame: pd.DataFrame, columns: Sequence[Column] = LAYER_COLUMNS, extra: Sequence[Column] = ()
) -> pd.DataFrame:
    """As `to_frame`, of rows that are a frame already."""
    own = {column.name for column in columns}
    known = {column.name: column for column in (*columns, *(column for column in extra if column.name not in own))}
    if unknown := [name for name in frame.columns if name not in known]:
        raise UserError(
            f"result rows have an unknown column {unknown[0]!r}; workloads/columns/ lists the known ones, and a target "
            "declares its own in `columns`"
        )
    result = pd.DataFrame({name: _in_dtype(frame, column) for name, column in known.items()})
    if "source" in result and not set(result["source"]) <= {*SOURCES, ""}:
        strange = sorted(set(result["source"]) - {*SOURCES, ""})
        raise UserError(f"result rows have an unknown source {strange[0]!r}; known: {' '.join(SOURCES)}")
    return result


def _in_dtype(frame: pd.DataFrame, column: Column) -> pd.Series:
    if column.name not in frame:
        return pd.Series(_MISSING.get(column.kind, pd.NA), index=frame.index, dtype=_DTYPES[column.kind])
    values = frame[column.name]
    if column.kind == "text" and values.dtype != _DTYPES["text"]:
        values = values.astype("object").where(values.notna(), "")
    elif column.kind == "text":
        values = values.fillna("")
    if column.kind == "bool":
        values = values.astype("object").where(values.notna(), True)
    if column.kind == "float":
        values = pd.to_numeric(values)
    try:
        return values.astype(_DTYPES[column.kind])
    except UnicodeEncodeError:  # file names that are not UTF-8
        return values.map(utf8).astype(_DTYPES[column.kind])
    except OverflowError:
        raise UserError(f"result rows: a number in {column.name} is beyond 64 bits; ask for less") from None


def beside(rows: pd.DataFrame) -> pd.Series:
    """(rows,) bool: which are of no layer of a block, but of what was included beside them, attention without a mask of
    its own among it. They take time, and no sparsity is asked of them."""
    if "layer_pattern" not in rows:
        return pd.Series(False, index=rows.index)
    return (rows["layer_pattern"] == DENSE) & rows["role"].isin(BESIDE)


def unpruned_weights(rows: pd.DataFrame) -> pd.Series:
    """(rows,) float64: of the layers before anything was taken out of them; 0 of what is `beside` them."""
    weights = rows["out_features"].astype("float64") * rows["in_features"].astype("float64")
    if "unpruned_out_features" in rows:
        before = rows["unpruned_out_features"].astype("float64") * rows["unpruned_in_features"].astype("float64")
        weights = before.fillna(weights)
    return weights.mask(beside(rows), 0.0)


def kept_weights(rows: pd.DataFrame) -> pd.Series:
    """(rows,) float64: of what `unpruned_weights` counts."""
    return rows["nnz"].astype("float64").mask(beside(rows), 0.0)


def undeclared(frame: pd.DataFrame, columns: Sequence[Column] = LAYER_COLUMNS) -> tuple[Column, ...]:
    """The columns of rows read back that are none of the schema: whole numbers, numbers, or else texts."""
    known = {column.name for column in columns}
    return tuple(_guessed(str(name), frame[name]) for name in frame.columns if name not in known)


def _guessed(name: str, values: pd.Series) -> Column:
    there = values[values.notna() & (values.astype("object") != "")]
    numbers = pd.to_numeric(there, errors="coerce")
    if there.empty or numbers.isna().any() or there.map(lambda value: isinstance(value, bool)).any():
        return Column(name, "text")
    whole = ((numbers % 1 == 0) & (numbers.abs() < 2**53)).all()
    return Column(name, "int" if whole else "float")


def to_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain dictionaries; missing numbers become None, ready for JSON."""
    return [
        {key: None if pd.isna(value) else value for key, value in record.items()}
        for record in frame.astype("object").to_dict("records")
    ]
