"""A search on paper: pairs of objectives, what the front covers, which parameters matter."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from reports.figures import drawing
from reports.figures.drawing import safe
from reports.words.headings import heading
from reports.words.units import in_units

COLOURS = (drawing.BLUE, drawing.VERMILLION, drawing.GREEN, drawing.PURPLE, drawing.ORANGE, drawing.SKY, drawing.BLACK)
_A_LINE = 3  # panels
_WIDE = 4.0  # a span of values beyond this ratio gets a logarithmic axis


def pairs_figure(where: str, panels: list[tuple[str, str, pd.DataFrame]]) -> Figure:
    """`panels`: (x, y, lines of `chart_pair`)."""
    columns = min(_A_LINE, len(panels))
    rows = -(-len(panels) // columns)
    figure = drawing.new_figure(2.6 * columns + 1.2, 2.5 * rows + 1.0, "Designs and their Pareto front", where)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    methods = list(dict.fromkeys(name for _, _, table in panels for name in table["method"]))
    for place, panel in zip(axes, panels, strict=False):
        _panel(place, *panel, methods)
    for place in axes[len(panels) :]:
        place.set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small", frameon=False,
                  title_fontsize="small",
                  title="full: on the front of all objectives; hollow: not; line: the front of the two")  # fmt: skip
    return figure


def _panel(axes: Axes, x: str, y: str, table: pd.DataFrame, methods: list[str]) -> None:
    drawing.style(axes, grid="both")
    _, names = in_units(table[[x, y]])
    axes.set_xlabel(heading(names.get(x, x)).text)
    axes.set_ylabel(heading(names.get(y, y)).text)
    for column, scale, axis in (("x", axes.set_xscale, axes.xaxis), ("y", axes.set_yscale, axes.yaxis)):
        low, high = table[column].min(), table[column].max()
        if low > 0 and high / low > _WIDE:
            scale("log")
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
            axis.set_minor_formatter(NullFormatter())
    stairs = table[table["stairs"]].sort_values("x")
    axes.plot(stairs["x"], stairs["y"], color=drawing.GREY, linewidth=0.8, drawstyle="steps-post")
    for number, method in enumerate(methods):
        colour = COLOURS[number % len(COLOURS)]
        mine = table[(table["method"] == method) & table["meets"]]
        rest, front = mine[~mine["front"]], mine[mine["front"]]
        many = len(rest) > drawing.MANY
        axes.plot(rest["x"], rest["y"], "o", mfc="none", mec=colour, mew=0.5, ms=2.5, alpha=0.5, rasterized=many)
        axes.plot(
            front["x"], front["y"], "o", color=colour, mec="white", mew=0.4, ms=4.5, label=safe(method, 40, lines=1)
        )


def progress_figure(where: str, lines: pd.DataFrame) -> Figure:
    """Of `progress_table`."""
    figure = drawing.new_figure(5.2, 2.8, "What the front covers as trials go on", where)
    axes = figure.subplots()
    drawing.style(axes, grid="both")
    axes.plot(lines["trials"], 100 * lines["covered"], color=drawing.BLUE, drawstyle="steps-post")
    axes.set_xlabel("trials")
    axes.set_ylabel("covered (%)")
    axes.set_ylim(bottom=0)
    return figure


def importance_figure(where: str, importance: pd.DataFrame) -> Figure:
    """Of `Searched.importance`."""
    objectives = list(dict.fromkeys(importance["objective"]))
    parameters = list(dict.fromkeys(importance["parameter"]))
    height = 0.8 / len(objectives)
    figure = drawing.new_figure(
        6.4, 1.4 + 0.16 * len(parameters) * (len(objectives) + 1), "Which parameters matter", where
    )
    axes = figure.subplots()
    drawing.style(axes, grid="x")
    for number, objective in enumerate(objectives):
        mine = importance[importance["objective"] == objective].set_index("parameter")["importance"]
        places = np.arange(len(parameters)) + (number - (len(objectives) - 1) / 2) * height
        colour = COLOURS[number % len(COLOURS)]
        axes.barh(places, 100 * mine.reindex(parameters), height, color=colour, label=heading(objective).text)
    axes.set_yticks(range(len(parameters)), [safe(name, 40, lines=1) for name in parameters])
    axes.invert_yaxis()
    axes.set_xlabel("share (%)")
    axes.legend(fontsize="small", frameon=False)
    return figure
