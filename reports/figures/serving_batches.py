"""Tokens a second of whole models over the sequences that run together, or over the context: a panel for each target, a
line for each method."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from reports.figures import drawing
from reports.figures.drawing import safe
from reports.figures.layers import MARKERS

WHAT = {"batch": "Tokens a second over sequences", "context": "Tokens a second over context"}
AXIS = {"batch": "sequences (log scale)", "context": "context, tokens (log scale)"}
_PANELS_A_LINE = 3


def batches_figure(panels: list[tuple[str, pd.DataFrame]], where: str, along: str = "batch") -> Figure:
    """(target, lines) each; what does not fit is hollow."""
    methods = list(dict.fromkeys(name for _, lines in panels for name in lines["method"]))
    columns = min(_PANELS_A_LINE, len(panels))
    rows = -(-len(panels) // columns)
    figure = drawing.new_figure(3.3 * columns + 0.8, 2.7 * rows + 1.1, WHAT[along], where)
    axes = figure.subplots(rows, columns, squeeze=False)
    for number, place in enumerate(axes.flat):
        if number >= len(panels):
            place.set_visible(False)
            continue
        _panel(place, *panels[number], methods, along)
        if number % columns == 0:
            place.set_ylabel("tokens/s (log scale)")
    handles = [
        Line2D([], [], marker=m, color=c, markersize=4.5, label=safe(name, 26, lines=1))
        for name, (m, c) in zip(methods, MARKERS * (len(methods) // len(MARKERS) + 1), strict=False)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize="small", frameon=False,
                  title="hollow: does not fit into the memory", title_fontsize="small")  # fmt: skip
    return figure


def _panel(axes: Axes, target: str, lines: pd.DataFrame, methods: list[str], along: str) -> None:
    drawing.style(axes, grid="both")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    sizes = sorted(lines[along].unique())
    for number, method in enumerate(methods):
        marker, colour = MARKERS[number % len(MARKERS)]
        own = lines[lines["method"] == method].sort_values(along)
        fits = own["usable"].to_numpy(bool)
        axes.plot(own[along], own["tokens_per_s"], color=colour, linewidth=1.1, alpha=0.85)
        axes.plot(own[along][fits], own["tokens_per_s"][fits], marker, color=colour, markersize=4.2)
        axes.plot(own[along][~fits], own["tokens_per_s"][~fits], marker, mfc="white", mec=colour, markersize=4.2)
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))
    axes.set_title(safe(target, 36, lines=2), fontsize="medium", color=drawing.INK)
    axes.set_xlabel(AXIS[along])
