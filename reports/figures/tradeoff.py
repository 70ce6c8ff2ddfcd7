"""Perplexity against speedup: what every method and target costs and brings, on every target, with the Pareto front."""

import math
from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from reports.figures import drawing
from reports.figures.drawing import safe
from reports.figures.quality import COLOURS, MARKERS
from reports.tables.quality import DENSE
from reports.tables.sums import CONFIG, groups
from reports.words.naming import config_text
from reports.words.present import cell, times_text

_WHAT = "Perplexity against speedup"
_PANELS = 6  # of one figure; more fill further figures
_COLUMNS = 3
_LOG_FROM = 3.0  # highest / lowest value from which an axis is logarithmic


Panels = list[tuple[dict, pd.DataFrame]]


def tradeoffs_of(points: pd.DataFrame) -> Iterator[tuple[str, Panels]]:
    """(model, panels of a figure) of what `tradeoffs` returns, a panel a configuration, at most six to a figure."""
    for key, of_model in groups(points, ["model"]) if len(points) else []:
        panels = list(groups(of_model, CONFIG))
        for first in range(0, len(panels), _PANELS):
            yield key["model"], panels[first : first + _PANELS]


def tradeoff_figure(model: str, points: pd.DataFrame, panels: Panels) -> Figure:
    """Of what `tradeoffs_of` gives; every figure of a model shows its methods alike."""
    of_model = points[points["model"] == model]
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    methods = [name for name in dict.fromkeys(of_model["method"]) if name != DENSE]
    marks = [mark for mark in MARKERS if mark != "*"]
    looks = {name: (marks[n % len(marks)], COLOURS[n % len(COLOURS)]) for n, name in enumerate(methods)}
    looks[DENSE] = ("*", drawing.INK)
    height = 3.4 * rows + 0.9 + 0.17 * math.ceil(len(methods) / 3)
    figure = drawing.new_figure(
        max(6.4, 3.6 * columns), height, _WHAT, f"{model}, {of_model['evaluation_text'].iloc[0]}"
    )
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for place, (key, lines) in zip(places, panels, strict=False):
        _panel(place, lines, looks)
        title = config_text({**key, "model": ""}).removeprefix(", ")
        place.set_title(safe(title, 44, lines=2), fontsize="small", color=drawing.INK)
    for place in places[len(panels) :]:
        place.set_visible(False)
    handles = [
        Line2D([], [], marker=marker, color=colour, linestyle="none", markersize=6, label=safe(name, 34, lines=1))
        for name, (marker, colour) in looks.items()
        if (of_model["method"] == name).any()
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=3, fontsize="small", frameon=False, title_fontsize="small",
        title="full marks, joined: the Pareto front (right and down is better); hollow: something is as fast and "
              "better, or as good and faster",
    )  # fmt: skip
    return figure


def _panel(axes: Axes, lines: pd.DataFrame, looks: dict[str, tuple[str, str]]) -> None:
    drawing.style(axes, grid="both")
    axes.axvline(1, color=drawing.SLOW_INK, linewidth=1)
    front = lines[lines["front"]].sort_values("speedup")
    axes.plot(front["speedup"], front["perplexity"], color=drawing.GREY, linewidth=1, drawstyle="steps-pre", zorder=2)
    for line in lines.itertuples():
        marker, colour = looks[str(line.method)]
        size = 9 if line.method == DENSE else 6
        fill = colour if line.front else "white"
        axes.plot(line.speedup, line.perplexity, marker, mec=colour, mfc=fill, mew=1, ms=size, zorder=4)
        text = str(line.target_name) or f"dense {cell('perplexity', line.perplexity).text}"
        axes.annotate(safe(text, 18, lines=1), (line.speedup, line.perplexity), xytext=(5, 4),
                      textcoords="offset points",
                      fontsize="x-small", color=drawing.INK)  # fmt: skip
    axes.set_xlabel("speedup over dense")
    axes.set_ylabel("perplexity")
    _scale(axes, "y", lines["perplexity"], lambda value, _: f"{value:,.4g}")
    _scale(axes, "x", lines["speedup"], lambda value, _: times_text(value))
    axes.margins(0.14)


def _scale(axes: Axes, which: str, values: pd.Series, text) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    if values.min() > 0 and values.max() / values.min() > _LOG_FROM:
        axes.set_xscale("log") if which == "x" else axes.set_yscale("log")
        decades = values.max() / values.min() > 300
        axis.set_major_locator(LogLocator(subs=(1,) if decades else (1, 2, 5)))
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(MaxNLocator(5))
    axis.set_major_formatter(FuncFormatter(text))
