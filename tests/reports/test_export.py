import io
import re

import pandas as pd
import pytest

from reports.render import latex, markdown
from reports.section import Table
from reports.tables.compare import compare_columns, compare_tables, perplexity_line
from reports.tables.layers import headline_table
from reports.tables.quality import perplexity_table
from tests.reports.samples import dense, frame, measured, quality_frame, row, two_layers
from workloads.csv_text import csv_text


def latex_table(table: pd.DataFrame, columns: list[str], **others) -> str:
    return latex.latex_table(Table(table, columns, **others), "x")


def markdown_table(table: pd.DataFrame, columns: list[str], **others) -> str:
    return markdown.markdown_table(Table(table, columns, **others))


@pytest.mark.parametrize(
    ("raw", "escaped"),
    [
        ("50% & $x_1$ #2", r"50\% \& \$x\_1\$ \#2"),
        ("{a}~b^c", r"\{a\}\textasciitilde{}b\textasciicircum{}c"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("<s>|", r"\textless{}s\textgreater{}\textbar{}"),
        ("[1]*", "{[}1]{*}"),
        ("two\nlines", "two lines"),
        ("\N{EN DASH}", "--"),
    ],
)
def test_latex_specials(raw, escaped):
    assert latex.escaped(raw) == escaped


def test_markdown_specials_cannot_break_a_row_or_start_html():
    assert markdown.escaped("a|b\n*c* <i>_&") == r"a\|b \*c\* &lt;i&gt;\_&amp;"


def test_latex_table_has_rules_units_and_as_many_cells_as_columns():
    table = headline_table(frame(two_layers(model="m_1")))
    text = latex_table(table, ["model", "sparsity", "speedup", "perplexity"], paper_caption="50 % cut")
    assert [re.search(rf"\\{rule}", text) is not None for rule in ("toprule", "midrule", "bottomrule")] == [True] * 3
    assert r"\caption{50 \% cut}" in text
    # No perplexity is known, so it has no column.
    assert r"    Model & Sparsity (\%) & Speedup \\" in text
    assert r"    m\_1 & 50.0 & 1.14x \\" in text
    assert r"\begin{tabular}{lrr}" in text


def test_slowdowns_are_marked_in_every_form():
    table = headline_table(frame([row(87, 100)]))
    assert r"\textbf{0.87x (slower)}" in latex_table(table, ["speedup"])
    assert "**0.87x (slower)**" in markdown_table(table, ["speedup"])


def test_markdown_rows_have_equal_cells():
    rows = [*two_layers(model="a|b"), *two_layers(target="t|u")]
    lines = markdown_table(headline_table(frame(rows)), ["model", "target", "speedup"]).splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {4}


def test_missing_values_are_a_dash_and_a_column_of_them_is_left_out():
    rows = [*two_layers(), *two_layers(target="p", level="paper", published_dense_cycles=500)]
    table = headline_table(frame(rows))
    lines = markdown_table(table, ["published_speedup", "perplexity"]).splitlines()
    # 2 x 500 / 350
    assert lines == ["| Against published baseline |", "| ---: |", "| \N{EN DASH} |", "| 2.86x |"]


def test_csv_keeps_every_digit_and_missing_values():
    rows = frame([row(100, 70, speedup=1 / 3), {**row(1, 1, layer="x"), "stall_cycles": None}])
    back = pd.read_csv(io.StringIO(csv_text(rows)))
    assert back.speedup[0] == 1 / 3
    assert back.stall_cycles.isna().tolist() == [False, True]
    assert list(back.columns) == list(rows.columns)


def side_by_side() -> tuple[pd.DataFrame, list[str], list[tuple[str, int]]]:
    known = quality_frame(dense(10.0), measured("a_1", "2:4", 20.0), measured("b|2", "2:4", 30.0))
    rows = [{**r, "target_sparsity": 0.5} for m in ("a_1", "b|2") for r in two_layers(method=m)]
    ((_, table),) = compare_tables(frame(rows), perplexity_table(known))
    columns = compare_columns(table)
    return table, columns, perplexity_line(table, columns)


def test_latex_groups_span_their_columns_and_every_line_fills_the_table():
    table, columns, below = side_by_side()
    text = latex_table(table, columns, below=below)
    assert r"     &  & dense & \multicolumn{3}{c}{a\_1} & \multicolumn{3}{c}{b\textbar{}2} \\" in text
    assert r"\cmidrule(lr){3-3}\cmidrule(lr){4-6}\cmidrule(lr){7-9}" in text
    assert r"    perplexity &  & 10.00 & \multicolumn{3}{r}{20.00} & \multicolumn{3}{r}{30.00} \\" in text
    for line in text.splitlines():
        if line.endswith(r"\\"):
            widths = [int(width) - 1 for width in re.findall(r"\\multicolumn\{(\d+)\}", line)]
            assert len(re.findall(r"(?<!\\)&", line)) + 1 + sum(widths) == 9


def test_markdown_names_the_method_in_every_heading():
    table, columns, below = side_by_side()
    lines = markdown_table(table, columns, below=below).splitlines()
    assert lines[0] == (
        r"| Role | Shape (out x in) | dense cycles | a\_1 cycles | a\_1 sparsity (%) | a\_1 speedup | "
        r"b\|2 cycles | b\|2 sparsity (%) | b\|2 speedup |"
    )
    assert lines[-1] == "| perplexity |  | 10.00 | 20.00 |  |  | 30.00 |  |  |"
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {10}
