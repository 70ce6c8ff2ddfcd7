"""What moved between two results, by hand."""

import pytest

from reports.comparison import comparison_text, markdown_comparison
from reports.tables.moved import moved_table
from studies.comparing import moved_between
from tests.reports.samples import barred, dense, frame, measured, quality_frame, row, two_layers
from workloads.csv_text import csv_text
from workloads.errors import UserError


def moved(before: list[dict], after: list[dict], quality=(None, None)):
    return moved_table((frame(before), frame(after)), quality)


def test_equal_results_have_not_moved():
    table = moved(two_layers(), two_layers())
    assert table["moved"].tolist() == [False]
    assert comparison_text(table) == "0 of 1 lines moved"


def test_what_moved_by_how_much_and_why():
    before = [row(400, 200, stall=50, ideal=100)]
    after = [row(400, 250, stall=100, ideal=100, mask_sha256="m1", tool_version="0.2.0")]
    table = moved(before, after)
    line = table.iloc[0]
    assert (line["before@speedup"], line["after@speedup"]) == (2.0, 1.6)
    assert line["time_change"] == pytest.approx(0.25)
    # 50 cycles of 200 more, all of them stalls.
    assert line["why"] == "DRAM stall +25.0 % of the time; other masks in 1 of 1 layers; prunesim 0.1.0, now 0.2.0"
    assert comparison_text(table) == "1 of 1 lines moved, the most wanda 2:4 on vitcod: time +25.0 %"
    assert "| +25.0 |" in markdown_comparison(table)


def test_perplexities_and_layers_that_no_longer_run_are_named():
    before = quality_frame(dense(10.0), measured("wanda", "2:4", 20.0))
    after = quality_frame(dense(10.0), measured("wanda", "2:4", 21.0))
    rows = [{**each, "target_sparsity": 0.5} for each in two_layers()]
    out = {**barred(target_sparsity=0.5), "layer": "layers.0.up", "role": "up"}
    line = moved(rows, [rows[0], out], (before, after)).iloc[0]
    assert line["perplexity_change"] == pytest.approx(0.05)
    assert "0 layers could not run, now 1" in line["why"]


def test_what_only_one_has_is_told():
    table = moved(two_layers(), [*two_layers(), *two_layers(tokens=2)])
    assert table["why"].tolist() == ["", "only after"]
    assert table["moved"].tolist() == [False, True]


def test_folders_and_files_are_compared(tmp_path):
    (tmp_path / "run").mkdir()
    for path in (tmp_path / "run" / "rows.csv", tmp_path / "rows.csv"):
        path.write_text(csv_text(frame(two_layers())))
    assert not moved_between(tmp_path / "run", tmp_path / "rows.csv")["moved"].any()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"none of rows\.csv, quality\.csv"):
        moved_between(tmp_path / "run", tmp_path / "empty")
