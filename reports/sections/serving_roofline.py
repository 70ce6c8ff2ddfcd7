"""Every operation of the dense whole model under the roofs of each target."""

from functools import partial

import pandas as pd

from reports.contents import Contents
from reports.figures.serving_roofline import roofline_figure
from reports.limits import MOST_FIGURES
from reports.section import Drawing, Points, Section
from reports.tables.rooflines import below_slope, rooflines
from reports.words import serving as words
from reports.words.naming import slug

MOST_PANELS = 9


def serving_roofline(contents: Contents) -> Section | None:
    found = [] if contents.whole is None else list(rooflines(contents.whole, contents.serving))
    if not found:
        return None
    sentences: list[str] = []
    together: dict[str, list[tuple[str, pd.DataFrame, float, float]]] = {}
    for key, points, peak, bandwidth in found:
        where = f"{key['model']}, {words.sizes_text(key)}"
        at = f"{words.target_name(key)}, {words.sequences(key['batch'])}"
        memory, compute = below_slope(points, peak, bandwidth)
        sentences.append(
            f"{where}, on {at}: operations left of the ridge ({1e3 * peak / bandwidth:,.0f} FLOP a byte) take "
            f"{words.percent(memory)} of the time, those right of it {words.percent(compute)}."
        )
        together.setdefault(where, []).append((at, points, peak, bandwidth))
    drawings = [
        Drawing(
            slug(f"{where}-roofline"), f"Roofline of every operation of the dense model: {where}",
            partial(roofline_figure, panels[:MOST_PANELS], where), pd.concat(points for _, points, _, _ in panels),
        )
        for where, panels in together.items()
    ]  # fmt: skip
    return Section("Roofline", [Points(sentences), *drawings[:MOST_FIGURES]], words.HOW_ROOFLINE)
