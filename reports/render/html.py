"""A report as one self-contained HTML page: styles, scripts, data and figures inside, nothing loaded from anywhere.

Every text goes through the template's autoescape. What scripts read is compressed JSON in base64, which holds no
markup. Charts are Vega-Lite that the bundled Vega draws, its expressions interpreted and not evaluated as code;
figures without a chart are data URIs in <img>: no script in them can run, and the ids of two cannot clash."""

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports.render.bundle import bundle
from reports.render.data import chart_columns, packed, table_data
from reports.render.facets import FACETS, Facets
from reports.render.layout import Grid, lay_out
from reports.section import Block, Drawing, Form, Report, Table
from reports.words.headings import heading
from reports.words.present import cell

_LONG = 60  # lines a table may have before it starts folded


@dataclass(frozen=True)
class Sheet:
    """A table as the template lays it out. `facets`: of each line; `main`: which columns are shown at once."""

    caption: str
    grid: Grid
    folded: bool
    wrapped: bool  # the last column holds long texts
    file: str
    facets: list[str]
    main: list[bool]

    @property
    def brief(self) -> bool:
        return not all(self.main)


@dataclass(frozen=True)
class Paged:
    """A table whose lines the page's data hold."""

    key: str
    caption: str
    lines: int
    file: str


@dataclass(frozen=True)
class Figures:
    """Figures shown one at a time. `each`: (drawing, paths of its files)."""

    each: list[tuple[Drawing, list[str]]]

    @property
    def labels(self) -> list[str]:
        return [drawing.label or drawing.title for drawing, _ in self.each]


@dataclass
class Page:
    """What the scripts of a page read."""

    facets: Facets = field(default_factory=Facets)
    charts: dict = field(default_factory=dict)
    tables: dict = field(default_factory=dict)
    files: dict = field(default_factory=dict)

    def data(self) -> dict:
        facets = [[name, values] for name, values in zip(FACETS, self.facets.values, strict=True)]
        return {"facets": facets, "charts": self.charts, "tables": self.tables, "files": self.files}


def html_report(
    report: Report,
    svgs: Mapping[str, bytes],
    files: Mapping[str, list[str]] | None = None,
    within: Mapping[str, str] | None = None,
) -> str:
    """`svgs`: the drawings that have no chart, by their names. `files`: paths of the files of each drawing. `within`:
    those that the page holds itself, and their texts."""
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
    page = Page(files=dict(within or {}))
    sections = [
        (section, [_laid(block, page, files or {}) for block in _grouped(blocks)])
        for section, blocks in report.of(Form.PAGE)
    ]
    template = environment.get_template("report.html.j2")
    choices = [(name, values) for name, values in page.data()["facets"] if len(values) > 1]
    return template.render(
        title=report.title,
        sections=sections,
        uri=uri,
        choices=choices,
        data=packed(page.data()),
        library=bundle() if page.charts else "",
    )


def _grouped(blocks: Iterable[Block]) -> Iterator[Block | list[Drawing]]:
    """Drawings that are shown one at a time, together."""

    together: list[Drawing] = []
    for block in blocks:
        named = isinstance(block, Drawing) and bool(block.group)
        if together and not (named and block.group == together[0].group):  # type: ignore[attr-defined]
            yield together
            together = []
        if named:
            together = [*together, block]  # type: ignore[list-item]
        else:
            yield block
    if together:
        yield together


def _laid(block: Block | list[Drawing], page: Page, files: Mapping[str, list[str]]) -> object:
    if isinstance(block, Table):
        return _paged(block, page) if block.paged else sheet(block, page.facets)
    drawings = block if isinstance(block, list) else [block] if isinstance(block, Drawing) else []
    for drawing in drawings:
        if drawing.chart is not None:
            page.charts[drawing.name] = _chart(drawing, drawing.chart, page.facets)
    return Figures([(drawing, list(files.get(drawing.name, []))) for drawing in drawings]) if drawings else block


def _chart(drawing: Drawing, spec: dict, facets: Facets) -> dict:
    lines = drawing.data
    return {"spec": spec, "rows": chart_columns(spec, lines), "facets": facets.codes(lines), "lines": len(lines)}


def _paged(table: Table, page: Page) -> Paged:
    key = f"t{len(page.tables)}"
    page.tables[key] = {**table_data(table), "facets": page.facets.codes(table.frame)}
    return Paged(key, table.name or table.caption, len(table.frame), table.file)


def sheet(table: Table, facets: Facets | None = None) -> Sheet:
    """What all lines share goes to the caption, which leaves a phone room for numbers."""
    frame = table.frame
    alike = [name for name in table.shared if name in frame and frame[name].nunique(dropna=False) == 1]
    told = [(name, cell(name, frame[name].iloc[0], known=table.known)) for name in alike]
    said = "".join(
        f"; {heading(name, table.known).text.lower()} {value.text}" for name, value in told if value.sort is not None
    )
    grid = lay_out(table, table.most, alike)
    folded = len(grid.lines) > _LONG if table.fold is None else table.fold
    lines = (facets or Facets()).of_lines(frame.head(len(grid.lines)))
    caption = f"{table.name or table.caption}{said}"
    main = {name for name in table.columns if name in table.main} if table.main else set(grid.columns)
    shown = [name in main or grid.base[name] in main for name in grid.columns]
    return Sheet(caption, grid, folded, grid.heads[-1].wraps, table.file, lines, shown)
