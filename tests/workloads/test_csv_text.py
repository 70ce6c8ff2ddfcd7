"""CSV text: nothing in it runs in a spreadsheet, numbers stay numbers, and reading brings back what was written."""

import io

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.csv_text import csv_text, read_back

LETTERS = st.characters(exclude_categories=("Cs",), exclude_characters="\r\0")


def read(text: str, **types) -> pd.DataFrame:
    return read_back(pd.read_csv(io.StringIO(text), dtype=types, keep_default_na=False))


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\n=1", "'=1", "''@a", "-"])
def test_a_text_that_a_spreadsheet_would_run_gets_an_apostrophe(name):
    text = csv_text(pd.DataFrame({"name": [name], "n": [1]}))
    cell = text.split("\n", 1)[1].lstrip('"')
    assert cell.startswith(f"'{name}")
    assert read(text, name=str)["name"].tolist() == [name]


@pytest.mark.parametrize("name", ["a=b", "'quoted'", "model-7b", "", " =1", "1-2"])
def test_other_texts_stay(name):
    assert csv_text(pd.DataFrame({"name": [name], "n": [1]})) == f"name,n\n{name or ''},1\n"


def test_numbers_stay_numbers():
    table = pd.DataFrame({"a": [-1.5, None], "b": pd.array([-(2**60), None], dtype="Int64"), "c": [-1, 2]})
    assert csv_text(table) == f"a,b,c\n-1.5,{-(2**60)},-1\n,,2\n"
    mixed = pd.DataFrame({"a": pd.Series([-1, "=x", None], dtype=object)})
    assert csv_text(mixed) == 'a\n-1\n\'=x\n""\n'


def test_headings_are_neutral_too():
    assert csv_text(pd.DataFrame({"=x@speedup": [1]})) == "'=x@speedup\n1\n"


def test_a_carriage_return_does_not_end_a_line():
    """pandas does not quote it, and readers take it for a line's end."""
    assert read(csv_text(pd.DataFrame({"a": ["x\ry", "z"], "b": [1, 2]})), a=str)["a"].tolist() == ["x\ny", "z"]


@settings(deadline=None)
@given(st.lists(st.text(LETTERS, max_size=4) | st.text("'=+-@\t\n\",;a", max_size=5), min_size=1, max_size=6))
def test_reading_brings_back_what_was_written(names):
    assert read(csv_text(pd.DataFrame({"a": names, "b": 1})), a=str)["a"].tolist() == names
