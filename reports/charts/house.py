"""What all charts of a page share: colours that follow its light and dark, marks, values under the pointer.

A chart is made by Altair of the named data "rows" and handed on as Vega-Lite; the page gives it its lines and its
width. Colours are the page's own (`--c0` of reports/render/page.css ...), so that dark, light and paper need no other
chart."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from reports.words.present import cell

COLOURS = [f"var(--c{number})" for number in range(10)]
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left"]
INK, QUIET, SLOW = "var(--ink)", "var(--quiet)", "var(--slow-ink)"
_SPOKEN = 12  # numbers that a text in place of a chart has
_LETTER = 6.2  # pixels of a letter of a bar's text
_WIDE = 3.0  # highest / lowest value from which an axis is logarithmic


def rows() -> alt.Chart:
    """A chart of the page's lines."""
    return alt.Chart(alt.NamedData(name="rows"))


def finished(chart: Any, height: int | None = None, **size: Any) -> dict:
    """The chart as Vega-Lite, as wide as the page has room."""
    if height is not None:
        size["height"] = height
    made = chart.properties(width="container", **size).to_dict(validate=False)
    made.pop("$schema", None)
    made.pop("config", None)
    for layer in made.get("layer", [made]):
        legend = layer["encoding"].get("shape", {}).get("legend") or {}
        if fill := legend.pop("symbolFillColor", None):
            # Of shapes alone Vega-Lite would draw nothing: the marks have their colours from elsewhere.
            legend["encoding"] = {"symbols": {"stroke": {"value": INK}, "fill": {"value": fill}}}
    made["autosize"] = {"type": "fit-x", "contains": "padding"}
    return made


def colours(names: Sequence[str]) -> alt.Scale:
    """One for each name, in this order whatever is filtered."""
    return alt.Scale(domain=list(names), range=[COLOURS[n % len(COLOURS)] for n in range(len(names))])


def shapes(names: Sequence[str]) -> alt.Scale:
    return alt.Scale(domain=list(names), range=[SHAPES[n % len(SHAPES)] for n in range(len(names))])


def scale(values: Any, **others: Any) -> alt.Scale:
    """Logarithmic where the values are far apart; never from zero."""
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    wide = len(known) and known.min() > 0 and known.max() / known.min() > _WIDE
    return alt.Scale(type="log" if wide else "linear", zero=False, nice=not wide, padding=18, **others)


def room(ends: Any, texts: Sequence[str]) -> alt.Scale:
    """From zero to where the longest bar has its text behind it, however narrow the chart."""
    needed: dict[int, float] = {}
    for end, text in zip(ends, texts, strict=True):
        pixels = round(_LETTER * len(text)) + 6
        needed[pixels] = max(needed.get(pixels, 0.0), float(end))
    parts = [f"{end:.6g} * width / max(width - {pixels}, width / 3)" for pixels, end in sorted(needed.items())
             if end >= max(far for other, far in needed.items() if other >= pixels)]  # fmt: skip
    return alt.Scale(domainMin=0, domainMax=alt.ExprRef(expr=f"max({', '.join(parts)})"), nice=False)


def told(*columns: tuple[str, str]) -> list[alt.Tooltip]:
    """(column, heading): texts under the pointer."""
    return [alt.Tooltip(f"{name}:N", title=title) for name, title in columns]


def line_at(value: float, axis: str = "x") -> alt.Chart:
    """A rule through the chart: as fast as dense."""
    return rows().mark_rule(color=SLOW, strokeWidth=1.2, strokeDash=[4, 3]).encode(**{axis: alt.datum(value)})


def said(column: str, values: pd.Series) -> list[str]:
    """Each value as tables print it."""
    return [cell(column, value).text for value in values]


def spoken(what: str, sentences: Sequence[str]) -> str:
    """What a chart shows, with its numbers, for those who cannot see it."""
    more = f"; and {len(sentences) - _SPOKEN:,} more, in its table" if len(sentences) > _SPOKEN else ""
    return f"{what}: {'; '.join(sentences[:_SPOKEN])}{more}."
