"""Writes a report: one folder with a page to read, tables to compute with, and figures to cite; or prints what to see
first."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from reports.contents import check_any, gather
from reports.figures.drawing import check_style
from reports.paper import NUMBERS, paper_files
from reports.render.html import html_report
from reports.render.latex import latex_report
from reports.render.markdown import markdown_report
from reports.render.terminal import print_sections
from reports.section import Drawing
from reports.sections import in_terminal, report_of
from workloads.columns.column import Column
from workloads.csv_text import csv_text
from workloads.files import write_bytes, write_text
from workloads.searched import Searched
from workloads.whole_models import WholeModels

_ROOM = 1_000_000  # bytes of a page's files within it, a fifth of which is left of them compressed


def write_report(
    rows: pd.DataFrame | None,
    quality: pd.DataFrame | None,
    folder: Path,
    title: str,
    notes: Sequence[str],
    timelines: pd.DataFrame | None = None,
    constants: pd.DataFrame | None = None,
    spmm: pd.DataFrame | None = None,
    declared: Sequence[Column] = (),
    after: Mapping[str, str] | None = None,
    whole: WholeModels | None = None,
    style: Path | None = None,
    searched: Searched | None = None,
) -> dict[str, Path]:
    """Writes report.html, report.md, report.tex and figures/ (svg, pdf, png, and csv and tex of the numbers) into
    `folder`; rows.csv and quality.csv as given, and the tables of the sections (whole-model.csv, roles.csv, designs.csv
    ...) where there is something to fill them. These tables have every line; pages and figures stop where nobody reads
    on (reports/limits.py) and say so.

    `timelines`: traces as reports/figures/timeline.py takes them. `constants`: what energies rest on, columns name,
    value, unit, node_nm and source; shown where the rows have energies. `spmm`: what is published of unstructured masks
    on GPUs, with the columns of reports/sections/spmm.py. `declared`: columns that targets have of their own; others
    are shown by their names. `after`: of methods that go on from others, the one before each. `whole`: rows of
    whole models, in serving.csv and inference.csv. `style`: a matplotlib style file for the figures, on top of
    reports/figures/paper.mplstyle. `searched`: trials of a search, in trials.csv.

    Returns the files by their name in the folder. Equal rows give equal bytes. Raises UserError when there are neither
    rows nor perplexities, they are ambiguous, or a file cannot be written; each file is whole or absent."""
    folder = Path(folder)
    check_style(style)
    check_any(rows, quality, whole, searched)
    written: dict[str, Path] = {}

    def write(name: str, content: str | bytes) -> None:
        path = folder / name
        write_bytes(path, content) if isinstance(content, bytes) else write_text(path, content)
        written[name] = path

    for name, given in (("rows.csv", rows), ("quality.csv", quality)):
        if given is not None and not given.empty:
            write(name, csv_text(given))
    contents = gather(rows, quality, title, notes, timelines, constants, spmm, declared, after, whole, searched)
    report = report_of(contents)
    svgs: dict[str, bytes] = {}
    files: dict[str, list[str]] = {}
    for section in report.sections:
        for name, table in section.files.items():
            write(name, csv_text(table))
        for drawing in section.blocks:
            if isinstance(drawing, Drawing):
                made = paper_files(drawing, style)
                svgs |= {drawing.name: made["svg"]} if "svg" in made and drawing.spec is None else {}
                shared = [path for path in files.get(drawing.paper, []) if not path.endswith(NUMBERS)]
                files[drawing.name] = [*shared, *(f"figures/{drawing.name}.{ending}" for ending in made)]
                for ending, content in made.items():
                    write(f"figures/{drawing.name}.{ending}", content)
    write("report.html", html_report(report, svgs, files, within(written)))
    write("report.md", markdown_report(report))
    write("report.tex", latex_report(report))
    return written


def within(written: Mapping[str, Path]) -> dict[str, str]:
    """Of the files those that a page holds itself, so that one who has the page alone has them: the smallest tables
    first, as long as there is room."""
    texts: dict[str, str] = {}
    room = _ROOM
    for name, path in sorted(written.items(), key=lambda item: item[1].stat().st_size):
        room -= path.stat().st_size
        if room < 0:
            break
        if name.endswith(NUMBERS) and name != "report.tex":
            texts[name] = path.read_text(encoding="utf-8")
    return texts


def print_report(
    rows: pd.DataFrame | None,
    quality: pd.DataFrame | None,
    console: Console,
    few: int,
    whole: WholeModels | None = None,
    searched: Searched | None = None,
) -> None:
    """Prints what to see first: the fastest designs of each sweep, the whole models; then methods side by side or, of a
    single method, its roles, if those are at most `few` tables; the perplexities of a report that has nothing else."""
    print_sections(in_terminal(gather(rows, quality, whole=whole, searched=searched)), console, few)
