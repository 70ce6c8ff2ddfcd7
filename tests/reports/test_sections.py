"""A section is one value: whoever adds one writes it once, and every form of the report has it."""

import io

import pandas as pd
import pytest
from rich.console import Console

from reports import print_report, sections, write_report
from reports.contents import Contents, gather
from reports.figures.drawing import empty_figure
from reports.section import (
    PAPER,
    READ,
    TERMINAL,
    Drawing,
    Form,
    Heading,
    Pairs,
    Points,
    Report,
    Section,
    Table,
    Text,
    Verdicts,
    named_apart,
    some_of,
)
from reports.words.headings import by_name
from tests.reports.samples import CELL, page_data, row, two_layers
from tests.reports.samples import frame as rows_frame
from workloads.columns.column import Column
from workloads.rows import to_frame

LEAK = Column("leak_pj", "float", "what leaks", heading="Leakage")
EVERYWHERE = READ | PAPER | TERMINAL


def leakage(contents: Contents) -> Section:
    """Made up: what no other file of the reports knows of."""
    lines = pd.DataFrame({"part": ["array <b>", "buffers"], "leak_pj": [1.5, 20.0]})
    known = by_name([LEAK])
    return Section(
        "What leaks",
        [
            Verdicts([("buffers leak & more", True)]),
            Points(["of all parts"]),
            Heading("Parts"),
            Table(lines, ["part", "leak_pj"], caption="Leakage by part", label="leaks",
                  paper_caption="Leakage of parts",
                  known=known, only=EVERYWHERE, file="leaks.csv"),
            Pairs([("models", f"{contents.plain['model'].nunique()}")]),
            Text("nothing else leaks", only=READ | TERMINAL),
            Drawing("leaks", "Leakage drawn", lambda: empty_figure("Leakage", "tiny", "nothing"), lines),
        ],
        lead="Power that flows while nothing works.",
        files={"leaks.csv": lines},
    )  # fmt: skip


@pytest.fixture
def with_leakage(monkeypatch):
    monkeypatch.setattr(sections, "SECTIONS", [*sections.SECTIONS, leakage])
    monkeypatch.setattr(sections, "IN_TERMINAL", [*sections.IN_TERMINAL, leakage])


@pytest.mark.usefixtures("with_leakage")
def test_a_section_of_one_file_is_in_every_form(tmp_path):
    files = write_report(rows_frame(two_layers()), None, tmp_path, "T", [])
    page, text, paper = (files[f"report.{ending}"].read_text() for ending in ("html", "md", "tex"))
    for part in (
        '<h2 id="what-leaks">What leaks</h2>', "<p>Power that flows while nothing "
                               "works.</p>", "buffers leak &amp; more", "<h3>Parts</h3>",
        "<li>of all parts</li>", "<dt>models</dt><dd>1</dd>", '<p class="caption">Leakage by '
                                                              'part</p>', "array &lt;b&gt;",
        'title="what leaks">Leakage '
        '(pJ)</th>', 'data-v="1.5">1.50</td>', 'alt="Leakage drawn"', "<p>nothing else leaks</p>",
    ):  # fmt: skip
        assert part in page
    assert text[text.index("## What leaks") :] == (
        "## What leaks\n\nPower that flows while nothing works.\n\n- buffers leak &amp; more\n- of all parts\n\n### "
        "Parts\n\n"
        "| Part | Leakage (pJ) |\n| --- | ---: |\n| array &lt;b&gt; | 1.50 |\n| buffers | 20.0 |\n\n- **models**: 1\n\n"
        "nothing else leaks\n\n![Leakage drawn](figures/leaks.svg)\n"
    )
    assert r"\caption{Leakage of parts}" in paper
    assert r"\label{tab:leaks}" in paper
    assert r"    Part & Leakage (pJ) \\" in paper
    assert pd.read_csv(files["leaks.csv"])["leak_pj"].tolist() == [1.5, 20.0]
    assert files["figures/leaks.svg"].read_bytes() == b"svg"


@pytest.mark.usefixtures("with_leakage")
def test_a_section_is_in_the_terminal_with_what_it_says_there():
    console = Console(record=True, width=100, file=io.StringIO())
    print_report(rows_frame(two_layers()), None, console, few=4)
    shown = console.export_text()
    assert shown.index("Leakage by part") < shown.index("array <b>") < shown.index("nothing else leaks")
    assert "Power that flows" not in shown


def test_forms_without_a_block_of_a_section_leave_it_out():
    section = Section("s", [Text("t", only=TERMINAL)])
    report = Report("r", [], [section])
    assert [len(list(report.of(form))) for form in Form] == [0, 0, 0, 1]


def test_many_tables_are_cut_and_the_rest_is_named():
    tables = [Table(pd.DataFrame({"layers": range(100)}), ["layers"]) for _ in range(20)]
    *shown, more = some_of(tables, "all.csv")
    assert (len(shown), more.text, more.file) == (16, "4 more tables: see all.csv.", "all.csv")
    assert {(table.most, table.file) for table in shown} == {(50, "all.csv")}  # 800 lines of a section


def test_drawings_of_one_name_are_kept_apart():
    drawn = Drawing("a", "", lambda: empty_figure("", "", ""), pd.DataFrame())
    apart = named_apart([Section("s", [drawn, drawn]), Section("t", [drawn])])
    assert [block.name for section in apart for block in section.blocks] == ["a", "a-2", "a-3"]


def test_a_targets_own_columns_are_shown_per_layer_declared_or_not(tmp_path):
    own = (Column("leak_pj", "float", "what leaks"), Column("bank_swaps", "int"))
    rows = to_frame([{**row(100, 50), "leak_pj": 2.5, "bank_swaps": 3}, {**row(9, 3), "layer": "b"}], extra=own)
    page = write_report(rows, None, tmp_path, "T", [], declared=own[:1])["report.html"].read_text()
    layers = page_data(page)["tables"]["t1"]
    assert ["Leak (pJ)", True, "what leaks", False] in layers["heads"]
    swaps = next(n for n, head in enumerate(layers["heads"]) if head[0] == "Bank swaps")
    assert [layers["columns"][swaps]["t"][i] for i in layers["columns"][swaps]["i"]] == ["3", "\N{EN DASH}"]


def test_what_a_section_needs_is_computed_once_and_only_when_asked_for():
    contents = gather(rows_frame([{**CELL, **row(10, 5)}]), None)
    assert "headline" not in vars(contents)
    assert contents.headline is contents.headline
