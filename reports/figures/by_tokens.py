"""Speedup against tokens: a panel for each target, a line for each layer shape, marks where it passes break-even."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from reports.figures import drawing
from reports.figures.drawing import safe
from reports.figures.layers import MARKERS
from reports.tables.by_tokens import PLACE, crossings
from reports.tables.sums import groups
from reports.words.settings import settings_text

WHAT = "Speedup against tokens"
_PANELS_A_LINE = 2


def tokens_figure(lines: pd.DataFrame, title: str) -> Figure:
    """Of the lines that `curves` gives for one model and its masks. Shaded: what a predicted line becomes where its 2:4
    times are off by the stated error, the dense ones by nothing."""
    panels = list(groups(lines, PLACE))
    columns = min(_PANELS_A_LINE, len(panels))
    rows = -(-len(panels) // columns)
    figure = drawing.new_figure(4.1 * columns + 1.2, 2.9 * rows + 1.0, WHAT, title)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    shapes = list(dict.fromkeys(lines["shapes"]))
    for number, place in enumerate(axes.flat):
        if number < len(panels):
            _panel(place, *panels[number], shapes)
            if number % columns == 0:
                place.set_ylabel("speedup over dense")
        else:
            place.set_visible(False)
    _legend(figure, shapes, bool(lines["error_p90"].notna().any()))
    return figure


def _panel(axes: Axes, key: dict, part: pd.DataFrame, shapes: list[str]) -> None:
    drawing.style(axes, grid="both")
    axes.set_xscale("log", base=2)
    counts = sorted(part["tokens"].unique())
    axes.xaxis.set_major_locator(FixedLocator(_apart(counts)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}x"))
    axes.axhline(1, color=drawing.SLOW_INK, linewidth=1.2)
    passed = 0
    for shape, same in groups(part, ["shapes"]):
        marker, colour = MARKERS[shapes.index(shape["shapes"]) % len(MARKERS)]
        same = same.sort_values("tokens")
        tokens, speedup = same["tokens"].astype("float64").to_numpy(), same["speedup"].to_numpy()
        error = same["error_p90"].to_numpy()
        axes.fill_between(tokens, speedup / (1 + error), speedup / (1 - error), color=colour, alpha=0.08, linewidth=0)
        axes.plot(tokens, speedup, marker=marker, color=colour, linewidth=1.2, markersize=4)
        for where, _ in crossings(list(tokens), list(speedup)):
            axes.plot(where, 1.0, "|", color=colour, markersize=13, markeredgewidth=1.8, zorder=5)
            # One below the other: the marks of neighbouring shapes are close.
            axes.annotate(f"{where:,.0f}", (where, 1.0), xytext=(4, -13 - 10 * (passed % 3)), fontsize="x-small",
                          textcoords="offset points", bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4},
                          color=colour, zorder=6)  # fmt: skip
            passed += 1
    settings = f" {settings_text(key['settings'])}" if key["settings"] else ""
    axes.set_title(
        safe(f"{key['target']}{settings}, {key['source']}", 48, lines=2), fontsize="small", color=drawing.INK
    )
    axes.set_xlabel("tokens (log scale)")


def _apart(counts: list[int]) -> list[int]:
    """Of the token counts, those whose labels do not touch."""
    kept: list[int] = []
    for count in counts:
        if not kept or count >= 3 * kept[-1]:
            kept.append(count)
    return kept


def _legend(figure: Figure, shapes: list[str], shaded: bool) -> None:
    handles = [
        Line2D([], [], marker=m, color=c, markersize=4, label=safe(shape, 30, lines=1))
        for shape, (m, c) in zip(shapes, MARKERS * (len(shapes) // len(MARKERS) + 1), strict=False)
    ]
    note = "out x in; upright mark and number: passes 1.0, interpolated in log tokens"
    note += "; shaded: stated error of nine in ten predictions" if shaded else ""
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize="small", frameon=False, title=note,
                  title_fontsize="small")  # fmt: skip
