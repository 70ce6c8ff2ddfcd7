"""A report as one self-contained HTML page: styles, script and figures inside, nothing loaded from anywhere.

Every text goes through the template's autoescape. Figures are data URIs in <img>: no script in them can run, and
the ids of two figures cannot clash.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports.render.layout import Grid, lay_out
from reports.section import Drawing, Form, Report, Table
from reports.words.headings import heading
from reports.words.present import cell

_LONG = 60  # lines a table may have before it starts folded


@dataclass(frozen=True)
class Sheet:
    """A table as the template lays it out."""

    caption: str
    grid: Grid
    folded: bool
    wrapped: bool  # the last column holds long texts
    file: str


def html_report(report: Report, svgs: Mapping[str, bytes]) -> str:
    """`svgs`: the drawings by their names."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def uri(drawing: Drawing) -> str:
        return "data:image/svg+xml;base64," + base64.b64encode(svgs[drawing.name]).decode("ascii")

    # The template asks what kind of block it lays out by the name of its class.
    environment.tests["kind"] = lambda block, name: type(block).__name__ == name
    template = environment.get_template("report.html.j2")
    sections = list(report.of(Form.PAGE))
    return template.render(title=report.title, facts=report.facts, sections=sections, sheet=sheet, uri=uri)


def sheet(table: Table) -> Sheet:
    """What all lines share goes to the caption, which leaves a phone room for numbers."""
    frame = table.frame
    alike = [name for name in table.shared if name in frame and frame[name].nunique(dropna=False) == 1]
    told = [(name, cell(name, frame[name].iloc[0], known=table.known)) for name in alike]
    said = "".join(
        f"; {heading(name, table.known).text.lower()} {value.text}" for name, value in told if value.sort is not None
    )
    grid = lay_out(table, table.most, alike)
    folded = len(grid.lines) > _LONG if table.fold is None else table.fold
    return Sheet(f"{table.name or table.caption}{said}", grid, folded, grid.heads[-1].wraps, table.file)
