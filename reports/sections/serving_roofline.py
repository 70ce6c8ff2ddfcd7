"""Every operation of the dense whole model under the roofs of each target, and its linears alone."""

from functools import partial

import pandas as pd

from reports.charts.roofline import chart_roofline, roofline_chart, spoken_roofline
from reports.contents import Contents
from reports.figures.serving_roofline import roofline_figure
from reports.limits import MOST_FIGURES, MOST_PANELS
from reports.section import Drawing, Points, Section, together
from reports.tables.rooflines import below_slope, rooflines
from reports.words import serving as words
from reports.words.naming import slug

Panels = list[tuple[str, pd.DataFrame, float, float]]  # target, operations, peak TFLOP/s, GB/s


def serving_roofline(contents: Contents) -> Section | None:
    found = [] if contents.whole is None else list(rooflines(contents.whole, contents.serving))
    if not found:
        return None
    sentences: list[str] = []
    places_of: dict[str, Panels] = {}
    for key, points, peak, bandwidth in found:
        where = f"{key['model']}, {words.sizes_text(key)}"
        at = f"{words.target_name(key)}, {words.sequences(key['batch'])}"
        memory, compute = below_slope(points, peak, bandwidth)
        sentences.append(
            f"{where}, on {at}: operations left of the ridge ({1e3 * peak / bandwidth:,.0f} FLOP a byte) take "
            f"{words.percent(memory)} of the time, those right of it {words.percent(compute)}."
        )
        places_of.setdefault(where, []).append((at, points, peak, bandwidth))
    drawings = [
        drawn
        for where, panels in list(places_of.items())[:MOST_FIGURES]
        for drawn in _drawings(where, panels[:MOST_PANELS])
    ]
    return Section("Roofline", [Points(sentences), *drawings], words.HOW_ROOFLINE)


def _drawings(where: str, panels: Panels) -> list[Drawing]:
    """Linears alone behind, where there is anything else to leave out: they are what masks and bits of weights change,
    and the axes are then theirs."""
    alone = [(at, points[points["group"] == "linears"], peak, bandwidth) for at, points, peak, bandwidth in panels]
    alone = [panel for panel in alone if len(panel[1])]
    fewer = sum(len(panel[1]) for panel in alone) < sum(len(panel[1]) for panel in panels)
    return _figure(where, panels, "every operation") + (_figure(where, alone, "linears") if alone and fewer else [])


def _figure(where: str, panels: Panels, what: str) -> list[Drawing]:
    charts, of = [], "" if what == "every operation" else f"{what} alone: "
    for at, points, peak, bandwidth in panels:
        shown, place = chart_roofline(points), f"{of}{where}, on {at}"
        charts.append(
            Drawing(
                slug(f"{place}-roofline"),
                f"{place}. {spoken_roofline(shown, peak, bandwidth)}",
                None,
                shown,
                partial(roofline_chart, shown, peak, bandwidth),
                f"Roofline of {what} of the dense model: {where}, on {at}",
                "roofline",
                place,
            )
        )
    return together(slug(f"{of}{where}-roofline"), charts, partial(roofline_figure, panels, where, what))
