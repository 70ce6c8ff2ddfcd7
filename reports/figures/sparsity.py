"""Speedup of whole models against their sparsity, with the ideal line."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reports.figures import drawing
from reports.figures.drawing import safe
from reports.figures.layers import MARKERS
from reports.limits import MOST_SERIES
from reports.tables.sums import groups

_WHAT = "Speedup against sparsity"


def sparsity_figure(model: str, lines: pd.DataFrame) -> Figure:
    """Of what `chart_sparsities` gives: a line a method, pattern and machine."""
    figure = drawing.new_figure(6.4, 4.2, _WHAT, model)
    axes = figure.add_subplot()
    low, high = max(0.0, lines["sparsity"].min() - 0.05), min(0.99, lines["sparsity"].max() + 0.05)
    line = np.linspace(low, high, 100)
    axes.plot(100 * line, 1 / (1 - line), color=drawing.INK, linewidth=1, linestyle="--", label="ideal, 1 / density")
    axes.axhline(1, color=drawing.SLOW_INK, linewidth=1.2)
    for number, (key, part) in enumerate(list(groups(lines, ["method", "kind", "place"]))[:MOST_SERIES]):
        marker, colour = MARKERS[number % len(MARKERS)]
        part = part.sort_values("sparsity")
        label = safe(f"{key['method']} {key['kind']}, {key['place']}", 40, lines=1)
        axes.plot(100 * part["sparsity"], part["speedup"], marker=marker, color=colour, linewidth=1, ms=5, label=label)
    drawing.style(axes, grid="both")
    axes.set_xlabel("sparsity (%)")
    axes.set_ylabel("speedup over dense")
    figure.legend(loc="outside lower center", ncols=2, fontsize="small", frameon=False)
    return figure
