"""A roofline of whole models: a panel for each target, a mark for each kind of operation."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.figures import drawing
from reports.figures.drawing import safe
from reports.figures.serving_shares import COLOURS
from reports.tables.serving import GROUPS

_PANELS_A_LINE = 3
MARKS = {"prefill": "o", "decode": "^"}


def roofline_figure(panels: list[tuple[str, pd.DataFrame, float, float]], where: str, what: str) -> Figure:
    """(target, operations, peak TFLOP/s, GB/s) each: operations with `intensity` (FLOP a byte), `tflops`, `share` of
    the time, `group` and `phase`. `what` they are: "every operation"."""
    columns = min(_PANELS_A_LINE, len(panels))
    rows = -(-len(panels) // columns)
    figure = drawing.new_figure(3.4 * columns + 0.8, 2.9 * rows + 1.1, f"Roofline of {what}, dense model", where)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for number, place in enumerate(axes.flat):
        if number >= len(panels):
            place.set_visible(False)
            continue
        _panel(place, *panels[number])
        if number % columns == 0:
            place.set_ylabel("TFLOP/s (log scale)")
        place.set_xlabel("FLOP a byte (log scale)")
        place.xaxis.set_tick_params(labelbottom=True)
    used = [name for name in GROUPS if any((part["group"] == name).any() for _, part, _, _ in panels)]
    handles = [Line2D([], [], marker="s", linestyle="", color=COLOURS[name], label=GROUPS[name]) for name in used]
    handles += [
        Line2D([], [], marker=m, linestyle="", color=drawing.INK, mfc="none", label=p) for p, m in MARKS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(7, len(handles)), fontsize="small",
                  frameon=False, title="size: share of the time", title_fontsize="small")  # fmt: skip
    return figure


def _panel(axes: Axes, target: str, operations: pd.DataFrame, peak_tflops: float, bandwidth_gbps: float) -> None:
    drawing.style(axes, grid="both")
    axes.set_xscale("log")
    axes.set_yscale("log")
    ridge = 1e3 * peak_tflops / bandwidth_gbps
    low = min(0.1, operations["intensity"].min() / 2)
    line = np.geomspace(low, max(10 * ridge, 2 * operations["intensity"].max()), 100)
    axes.plot(line, np.minimum(peak_tflops, bandwidth_gbps * line / 1e3), color=drawing.INK, linewidth=1.2)
    axes.axvline(ridge, color=drawing.GREY, linewidth=0.8, linestyle=(0, (2, 2)))
    for phase, marker in MARKS.items():
        own = operations[operations["phase"] == phase]
        for group, part in own.groupby("group", sort=False):
            marks = {"s": 14 + 220 * part["share"], "color": COLOURS[str(group)], "marker": marker}
            axes.scatter(part["intensity"], part["tflops"], ec=drawing.INK, lw=0.5, zorder=3, **marks)
    roofs = f"{peak_tflops:,.0f} TFLOP/s, {bandwidth_gbps:,.0f} GB/s\nridge at {ridge:,.0f} FLOP/B"
    axes.set_title(f"{safe(target, 32, lines=2)}\n{roofs}", fontsize="small", color=drawing.INK)
