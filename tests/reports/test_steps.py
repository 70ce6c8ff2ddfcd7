"""Steps of compression, in numbers that can be checked in the head."""

import math

import pandas as pd
import pytest

from reports.contents import gather
from reports.sections.steps import steps
from reports.tables.layers import headline_table
from reports.tables.steps import step_table
from reports.write import write_report
from tests.reports.samples import frame, row

# The unpruned model takes 200 cycles at 16 bits and 120 at 4, which the last step's own baseline is.
ROWS = [
    row(200, 160, method="a", pattern="smaller", target_sparsity=0.2),
    row(200, 100, method="a + b"),
    row(120, 40, method="a + b + 4 bits"),
    row(200, 100, method="alone"),
]
AFTER = {"a + b": "a", "a + b + 4 bits": "a + b"}


def test_each_step_against_the_one_before_and_the_unpruned_model():
    found = step_table(headline_table(frame(ROWS)), AFTER).set_index("method")
    assert found.index.tolist() == ["a", "a + b", "a + b + 4 bits"]
    assert found["step_speedup"].tolist() == pytest.approx([1.25, 1.6, 2.5])
    assert found["total_speedup"].tolist() == pytest.approx([1.25, 2.0, 5.0])
    assert found["speedup"].tolist() == pytest.approx([1.25, 2.0, 3.0])


def test_a_step_that_is_not_there_or_is_twice():
    found = step_table(headline_table(frame(ROWS[1:])), AFTER).set_index("method")
    assert math.isnan(found.loc["a + b", "step_speedup"])
    assert found.loc["a + b + 4 bits", "step_speedup"] == pytest.approx(2.5)
    assert math.isnan(found.loc["a + b + 4 bits", "total_speedup"])
    twice = [row(200, 80, method="a", pattern="smaller", target_sparsity=0.4), *ROWS]
    assert math.isnan(step_table(headline_table(frame(twice)), AFTER).set_index("method").loc["a + b", "step_speedup"])


def test_reports_have_it_where_runs_go_on_from_others(tmp_path):
    assert steps(gather(frame(ROWS), None)) is None
    write_report(frame(ROWS), None, tmp_path, "t", [], after=AFTER)
    assert "Step by step" in (tmp_path / "report.html").read_text()
    assert pd.read_csv(tmp_path / "steps.csv")["total_speedup"].tolist() == pytest.approx([1.25, 2.0, 5.0])
