"""The schema of result rows: order, types, missing values."""

import json
import math

import pandas as pd
import pytest

from workloads.columns.column import Column
from workloads.columns.layers import LAYER_COLUMNS
from workloads.columns.quality import QUALITY_COLUMNS
from workloads.errors import UserError
from workloads.rows import to_frame, to_records, undeclared

ROW = {"speedup": 1.5, "cycles": 10, "model": "m", "source": "simulated", "feasible": True}
DTYPES = {"text": "str", "int": "Int64", "float": "float64", "bool": "bool"}


@pytest.mark.parametrize("columns", [LAYER_COLUMNS, QUALITY_COLUMNS], ids=["layers", "quality"])
@pytest.mark.parametrize("rows", [[], [{"model": "m"}], [{"seed": 1}, {"seed": None}]], ids=["none", "one", "gap"])
def test_columns_and_dtypes_are_the_schemas_whatever_the_rows(rows: list, columns: tuple) -> None:
    frame = to_frame(rows, columns)
    assert list(frame.columns) == [column.name for column in columns]
    assert [str(dtype) for dtype in frame.dtypes] == [DTYPES[column.kind] for column in columns]
    assert len(frame) == len(rows)


def test_names_are_unique_and_explained() -> None:
    for columns in (LAYER_COLUMNS, QUALITY_COLUMNS):
        assert len({column.name for column in columns}) == len(columns)
        assert all(column.meaning for column in columns)


def test_order_of_rows_and_values_is_kept() -> None:
    rows = [{**ROW, "cycles": n, "layer": f"l{n}"} for n in (3, 1, 2)]
    frame = to_frame(iter(rows))
    assert frame["cycles"].tolist() == [3, 1, 2]
    assert frame["layer"].tolist() == ["l3", "l1", "l2"]
    assert set(frame["speedup"]) == {1.5}


@pytest.mark.parametrize("missing", [None, math.nan, pd.NA])
def test_missing_values(missing: object) -> None:
    empty = dict.fromkeys(["model", "cycles", "speedup", "feasible", "reason"], missing)
    frame = to_frame([{**ROW, "feasible": False}, empty])
    assert frame["model"].tolist() == ["m", ""]
    assert frame["reason"].tolist() == ["", ""]
    assert frame["feasible"].tolist() == [False, True]
    assert frame["cycles"].isna().tolist() == [False, True]
    assert frame["speedup"].isna().tolist() == [False, True]


def test_a_gap_does_not_round_large_counts() -> None:
    assert to_frame([{"cycles": 2**60 + 1}, {"cycles": None}])["cycles"][0] == 2**60 + 1


def test_unknown_column() -> None:
    with pytest.raises(UserError, match=r"unknown column 'cycle'; workloads/columns/"):
        to_frame([{**ROW, "cycle": 3}])
    with pytest.raises(UserError, match="unknown column 'speedup'"):
        to_frame([ROW], QUALITY_COLUMNS)


@pytest.mark.parametrize("source", ["simulated", "predicted", "measured", "published", ""])
def test_known_sources(source: str) -> None:
    assert to_frame([{**ROW, "source": source}])["source"].tolist() == [source]


def test_unknown_source() -> None:
    with pytest.raises(UserError, match="unknown source 'guessed'; known: simulated predicted measured published"):
        to_frame([ROW, {**ROW, "source": "guessed"}, {}])


def test_records_are_json_with_null_for_what_is_missing() -> None:
    frame = to_frame([ROW, {"cycles": None, "speedup": math.nan, "feasible": False, "reason": "does not fit"}])
    first, second = json.loads(json.dumps(to_records(frame), allow_nan=False))
    assert list(first) == [column.name for column in LAYER_COLUMNS]
    assert {key: first[key] for key in ROW} == ROW
    assert first["latency_us"] is None
    assert first["nnz"] is None
    assert first["layer"] == ""
    assert (second["cycles"], second["speedup"]) == (None, None)
    assert (second["feasible"], second["reason"], second["model"]) == (False, "does not fit", "")


def test_records_make_the_same_frame_again() -> None:
    frame = to_frame([ROW, {"model": "x"}])
    pd.testing.assert_frame_equal(to_frame(to_records(frame)), frame)


def test_columns_of_a_targets_own_stand_behind_the_schemas() -> None:
    own = (Column("banks", "int"), Column("speedup", "text"))  # a name of the schema's keeps the schema's meaning
    frame = to_frame([{**ROW, "banks": 4}, ROW], extra=own)
    assert list(frame) == [*(column.name for column in LAYER_COLUMNS), "banks"]
    assert frame["banks"].tolist() == [4, pd.NA]
    assert frame["speedup"].tolist() == [1.5, 1.5]


def test_types_of_undeclared_columns_are_those_of_their_values() -> None:
    frame = pd.DataFrame(
        {"model": ["m", "n"], "a": ["1", None], "b": ["0.5", "2"], "c": ["1", "x"], "d": [True, False]}
    )
    found = {column.name: column.kind for column in undeclared(frame.assign(e=None))}
    assert found == {"a": "int", "b": "float", "c": "text", "d": "text", "e": "text"}


@pytest.mark.parametrize(
    ("column", "title", "unit", "printed"),
    [
        (Column("leak_power_pj", "float"), "Leak power", "pJ", "quantity"),
        (Column("edp_pj_us", "float"), "Edp", "pJ µs", "quantity"),
        (Column("distribution_cycles", "int"), "Distribution cycles", "", "amount"),
        (Column("banks", "int"), "Banks", "", "count"),
        (Column("loss", "float"), "Loss", "", "number"),
        (Column("idle", "float", printed="share"), "Idle", "%", "share"),
        (Column("fits", "bool", heading="Does it fit"), "Does it fit", "", "yes"),
        (Column("why", "text", heading=""), "", "", "text"),
    ],
)
def test_headings_and_units_come_from_the_name_where_nothing_else_is_said(column, title, unit, printed) -> None:
    assert (column.title, column.unit, column.shown) == (title, unit, printed)
