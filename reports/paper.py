"""The files of a figure for those who write: drawn as svg, pdf and png, its numbers as csv and as a LaTeX table."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from reports.figures.drawing import figure_bytes
from reports.render.latex import latex_table
from reports.section import Drawing, Table
from workloads.columns.column import Column
from workloads.csv_text import csv_text

NUMBERS = (".csv", ".tex")
_MOST = 5000  # lines of a figure's numbers
_MOST_ON_PAPER = 120
_DRESSED = ("said", "short", "last", "right", "place", "run", "begin", "x", "y", "unit")  # a chart's own columns


def paper_files(drawing: Drawing, style: Path | None = None) -> dict[str, bytes]:
    """Contents by ending; `style` as write_report takes it."""
    made: dict[str, bytes] = {}
    if drawing.draw is not None:
        made |= figure_bytes(drawing.draw, style)
    if drawing.spec is not None:
        lines = drawing.data.head(_MOST)
        made["csv"] = csv_text(lines[[name for name in lines.columns if not _dressed(name)]]).encode()
        made["tex"] = _table(drawing, lines).encode()
    return made


def _dressed(name: str) -> bool:
    return name in _DRESSED or name.endswith("_said")


def _table(drawing: Drawing, lines: pd.DataFrame) -> str:
    """What the chart tells of its marks."""
    told = told_columns(drawing.chart)
    known = {name: Column(name, "text", heading=title) for name, title in told.items()}
    more = f"; the first {_MOST_ON_PAPER} of {len(lines):,} lines" if len(lines) > _MOST_ON_PAPER else ""
    table = Table(lines.head(_MOST_ON_PAPER).astype(object), list(told), known=known)
    title = drawing.title or drawing.text
    return latex_table(replace(table, paper_caption=f"{title}{more}."), f"figure-{drawing.name}")


def told_columns(spec: object) -> dict[str, str]:
    """{column: heading} of the first texts under the pointer in a Vega-Lite chart."""
    if isinstance(spec, dict):
        if isinstance(tips := spec.get("tooltip"), list):
            return {tip["field"]: tip["title"] for tip in tips}
        spec = list(spec.values())
    parts = spec if isinstance(spec, list) else []
    return next((found for part in parts if (found := told_columns(part))), {})
