"""Rows read back from files: what was written comes back, what is none of it gets one line."""

import json

import pandas as pd
import pytest

from studies.report import read_rows
from workloads.columns.column import Column
from workloads.columns.quality import QUALITY_COLUMNS
from workloads.csv_text import csv_text
from workloads.errors import UserError
from workloads.rows import to_frame, to_records

FULL = {
    "model": "=m", "method": "-wanda", "pattern": "2:4", "layer": "layers.0\nq", "block": 0, "role": "q",
    "target": "vitcod",
    "tokens": 1, "cycles": 2**53 + 1, "dense_cycles": 5, "speedup": 1 / 3, "feasible": True, "level": "cycle",
    "source": "simulated",
}  # fmt: skip
ROWS = to_frame([FULL, {**FULL, "cycles": None, "feasible": False, "reason": "too, 'big'", "speedup": None}])
HEADER = "model,method,layer,target,tokens,speedup"


def written(folder, content, name="rows.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("name", ["rows.csv", "rows.json", "rows.txt"])
def test_csv_brings_back_every_digit_and_letter_whatever_the_suffix(tmp_path, name):
    pd.testing.assert_frame_equal(read_rows(written(tmp_path, csv_text(ROWS), name)), ROWS)


@pytest.mark.parametrize("name", ["rows.csv", "rows.json"])
def test_json_is_told_by_its_content(tmp_path, name):
    pd.testing.assert_frame_equal(read_rows(written(tmp_path, json.dumps(to_records(ROWS)), name)), ROWS)


def test_a_spreadsheets_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    assert len(read_rows(written(tmp_path, b"\xef\xbb\xbf" + csv_text(ROWS).encode()))) == 2


def test_columns_that_older_rows_lack_are_empty(tmp_path):
    rows = read_rows(written(tmp_path, f"{HEADER}\nm,wanda,l,vitcod,1,2.0\n"))
    assert rows["energy_pj"].isna().all()
    assert rows["settings"].tolist() == [""]
    assert rows["feasible"].all()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x89PNG\r\n\x1a\n\xff", "is no text"),
        (b"PAR1\xff\xfe", "is no text"),
        ("", "lacks the column 'model'"),
        ("a;b\n1;2\n", "lacks the column 'model'"),
        ("model,method\na,b\n", "lacks the column 'layer'"),
        (f"{HEADER}\na,b,c,d,1\n", "line 2: 5 fields"),
        (f"{HEADER}\na,b,c,d,1,2,3\n", "line 2: 7 fields"),
        (f"{HEADER},model\na,b,c,d,1,2,3\n", "'model' twice"),
        (f"{HEADER}\na,b,c,d,1,fast\n", "row 1: speedup is 'fast', not a number"),
        (f"{HEADER}\na,b,c,d,1,2\na,b,c,d,1.5,2\n", "row 2: tokens is '1.5', not a whole number"),
        (f"{HEADER}\na,b,c,d,{10**20},2\n", "tokens is '1000"),
        (f"{HEADER}\na,b,c,d,inf,2\n", "tokens is 'inf'"),
        (f"{HEADER},feasible\na,b,c,d,1,2,maybe\n", "feasible is 'maybe'"),
        (f"{HEADER},source\na,b,c,d,1,2,guessed\n", "guessed"),
        (f"{HEADER}\n{'a' * 200_000},b,c,d,1,2\n", "is not a CSV file"),
        ('{"model": 1}', "list of objects"),
        ("[1, 2]", "list of objects"),
        ("[", "does not hold result rows"),
        ('[{"masks": "a", "head_features": 1}]', "attention"),
        (f"[{json.dumps(dict.fromkeys(HEADER.split(','), 'x'))}]", "does not hold result rows"),
    ],
)
def test_what_is_no_rows_gets_one_line(tmp_path, content, said):
    with pytest.raises(UserError) as caught:
        read_rows(written(tmp_path, content))
    assert said in str(caught.value)
    assert "rows.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_or_nothing_at_all(tmp_path):
    for path in (tmp_path, tmp_path / "absent.csv"):
        with pytest.raises(UserError, match="cannot read rows from"):
            read_rows(path)


def test_perplexities_are_read_likewise(tmp_path):
    rows = to_frame([{"model": "+m", "method": "dense", "perplexity": 1e300}], QUALITY_COLUMNS)
    pd.testing.assert_frame_equal(read_rows(written(tmp_path, csv_text(rows)), QUALITY_COLUMNS), rows)


def test_columns_of_a_targets_own_come_back_behind_the_schemas(tmp_path):
    own = (Column("banks", "int"), Column("leak_pj", "float"), Column("says", "text"))
    rows = to_frame([{**FULL, "banks": 3, "leak_pj": 0.5, "says": "x"}, {**FULL, "banks": None}], extra=own)
    assert list(rows)[-3:] == ["banks", "leak_pj", "says"]
    for name, text in (("a.csv", csv_text(rows)), ("a.json", json.dumps(to_records(rows)))):
        pd.testing.assert_frame_equal(read_rows(written(tmp_path, text, name)), rows)
