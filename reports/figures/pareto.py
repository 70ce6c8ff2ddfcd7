"""The designs of a sweep: latency against energy and against area, with the Pareto fronts."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from reports.figures import drawing
from reports.figures.drawing import safe
from reports.figures.layers import MARKERS, series
from reports.tables.designs import COSTS
from reports.words.naming import config_text
from reports.words.units import in_units, unit_of

_WHAT = "Designs: latency against energy and area"
_WIDE = 4.0  # a span of values beyond this ratio gets a logarithmic axis
_APART = 0.05  # of the axes' width and height, between two numbers


def pareto_figure(key: dict, table: pd.DataFrame) -> Figure:
    """Of one table of `design_tables`. A full mark is on its front, a hollow one is not; numbers are the designs of the
    table."""
    whole = table[table["infeasible_layers"] == 0]
    costs = [cost for cost in COSTS if whole[cost].nunique() > 1]
    if whole.empty or not costs:
        why = "Nothing differs but the latency; see the table." if len(whole) else "No design can run every layer."
        return drawing.empty_figure(_WHAT, config_text(key), why)
    whole, names = in_units(whole)
    figure = drawing.new_figure(4.0 + 3.4 * (len(costs) - 1), 4.2, _WHAT, config_text(key))
    axes = figure.subplots(1, len(costs), squeeze=False)[0]
    for place, cost in zip(axes, costs, strict=True):
        _panel(place, whole, names["latency_us"], names.get(cost, cost), COSTS[cost])
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize="small", frameon=False,
                  title_fontsize="small",
                  title="full marks: the Pareto front, numbered as in the table; hollow: dominated")  # fmt: skip
    return figure


def _panel(axes: Axes, whole: pd.DataFrame, latency: str, cost: str, name: str) -> None:
    drawing.style(axes, grid="both")
    axes.set_xlabel(f"latency ({_unit(latency)})")
    axes.set_ylabel(f"{name} ({_unit(cost)})")
    _scale(axes, "x", whole[latency])
    _scale(axes, "y", whole[cost])
    numbered: list[tuple[float, float, str]] = []
    for number, (label, group) in enumerate(series(whole)):
        marker, colour = MARKERS[number % len(MARKERS)]
        on = group["front"].str.contains(name)
        front = group[on].sort_values(latency)
        axes.plot(
            group.loc[~on, latency], group.loc[~on, cost], marker, mfc="none", mec=colour, mew=0.8, ms=4, alpha=0.7
        )
        axes.plot(front[latency], front[cost], color=colour, linewidth=1, drawstyle="steps-post", alpha=0.8)
        axes.plot(front[latency], front[cost], marker, mfc=colour, mec="white", mew=0.7, ms=7, zorder=5,
                  label=safe(label, 40, lines=1))  # fmt: skip
        numbered += [(x, y, str(n)) for n, x, y in front[["design", latency, cost]].itertuples(index=False)]
    axes.autoscale_view()
    _number(axes, numbered)


def _number(axes: Axes, points: list[tuple[float, float, str]]) -> None:
    """Writes each point's number beside it, but for those that would cover one another."""
    taken: list[np.ndarray] = []
    for x, y, text in points:
        place = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))
        if all((np.abs(place - other) > _APART).any() for other in taken):
            taken.append(place)
            axes.annotate(
                text, (x, y), xytext=(4, 4), textcoords="offset points", fontsize="x-small", color=drawing.INK
            )


def _scale(axes: Axes, which: str, values: pd.Series) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = values.min(), values.max()
    if low > 0 and high / low > _WIDE:
        axes.set_xscale("log") if which == "x" else axes.set_yscale("log")
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(MaxNLocator(5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))


def _unit(column: str) -> str:
    found = unit_of(column)
    return found[1].text if found else "mm²"
