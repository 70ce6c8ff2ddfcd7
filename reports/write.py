"""Writes a report: one folder with a page to read, tables to compute with, and figures to cite."""

import re
from pathlib import Path

import pandas as pd

from reports import figures
from reports.contents import gather
from reports.drawing import png_bytes, svg_bytes
from reports.explain import config_text
from reports.export import csv_text, latex_report, markdown_report
from reports.page import Picture, html_report
from reports.tables import CONFIG, checked, counted, groups
from workloads.files import write_bytes, write_text

_FIGURES = (
    ("cycles", "Where the cycles go, per role", figures.bars_figure),
    ("speedup-map", "Speedup by block and role", figures.heatmap_figure),
    ("sparsity-speedup", "Sparsity against speedup, per layer", figures.scatter_figure),
)


def write_report(
    rows: pd.DataFrame, quality: pd.DataFrame | None, folder: Path, title: str, notes: list[str]
) -> dict[str, Path]:
    """Writes report.html, report.md, report.tex, rows.csv, quality.csv (if any) and figures/ into `folder`.

    Returns the files by their name in the folder. Equal rows give equal bytes. Raises UserError when the rows are
    empty or ambiguous, or a file cannot be written; each file is whole or absent.
    """
    folder = Path(folder)
    checked(rows)
    written: dict[str, Path] = {}

    def write(name: str, content: str | bytes) -> None:
        path = folder / name
        write_bytes(path, content) if isinstance(content, bytes) else write_text(path, content)
        written[name] = path

    write("rows.csv", csv_text(rows))
    if quality is not None and not quality.empty:
        write("quality.csv", csv_text(quality))
    contents = gather(rows, quality, title, notes)
    pictures: dict[str, list[Picture]] = {}
    links: list[tuple[str, str]] = []
    for name, heading, text, figure in _drawn(contents.rows):
        svg = svg_bytes(figure)
        write(f"figures/{name}.svg", svg)
        write(f"figures/{name}.png", png_bytes(figure))
        pictures.setdefault(heading, []).append(Picture(f"{text}: {heading}", svg))
        links.append((f"{text}: {heading}", f"figures/{name}.svg"))
    write("report.html", html_report(contents, pictures))
    write("report.md", markdown_report(contents, links))
    write("report.tex", latex_report(contents.headline, contents.roles, title))
    return written


def _drawn(rows: pd.DataFrame):
    """(file name without ending, configuration, what it shows, figure); nothing where no layer can run."""
    names: set[str] = set()
    for key, group in groups(rows, CONFIG):
        if counted(group).empty:
            continue
        stem = _unused(_slug(f"{key['model']}-{key['target']}-{key['tokens']}-tokens"), names)
        for kind, text, draw in _FIGURES:
            yield f"{stem}-{kind}", config_text(key), text, draw(group)


def _slug(text: str) -> str:
    """A file name that every system accepts and that cannot leave the folder."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()[-100:] or "unnamed"


def _unused(stem: str, names: set[str]) -> str:
    """`stem`, numbered when another configuration has it already."""
    number, candidate = 1, stem
    while candidate in names:
        number += 1
        candidate = f"{stem}-{number}"
    names.add(candidate)
    return candidate
