"""What a method gains over sequences and context: a panel for each target, colours diverging from 1x."""

import math

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reports.figures import drawing
from reports.figures.drawing import safe
from reports.words.present import times_text

Panel = tuple[str, pd.DataFrame, pd.DataFrame]  # target, speedups (contexts, batches), whether they fit
_PANELS_A_LINE = 3


def gains_figure(method: str, panels: list[Panel], where: str) -> Figure:
    """Hatched: does not fit into the memory."""
    columns = min(_PANELS_A_LINE, len(panels))
    rows = -(-len(panels) // columns)
    wide = max(len(grid.columns) for _, grid, _ in panels)
    tall = max(len(grid) for _, grid, _ in panels)
    size = (columns * (0.52 * wide + 0.9) + 1.6, rows * (0.34 * tall + 0.9) + 0.9)
    hatched = "" if all(fits.all(axis=None) for _, _, fits in panels) else "; hatched: does not fit"
    what = f"Speedup of {safe(method, 30, lines=1)} over dense{hatched}"
    figure = drawing.new_figure(max(size[0], 5.6), size[1], what, where)
    axes = figure.subplots(rows, columns, squeeze=False)
    values = np.log2(np.concatenate([grid.to_numpy(float).ravel() for _, grid, _ in panels]))
    reach = max(float(np.nanmax(np.abs(values))), math.log2(1.1))
    for number, place in enumerate(axes.flat):
        if number >= len(panels):
            place.set_visible(False)
            continue
        mesh = _panel(place, *panels[number], reach)
        if number % columns == 0:
            place.set_ylabel("context (tokens)")
    bar = figure.colorbar(mesh, ax=list(axes.flat), shrink=0.9, aspect=22, pad=0.02)
    ticks = [-reach, -reach / 2, 0, reach / 2, reach]
    bar.set_ticks(ticks, labels=[f"{2.0**tick:.2f}x" for tick in ticks])
    bar.ax.tick_params(labelsize="small", colors=drawing.INK, length=2)
    bar.set_label("slower than dense  |  faster", fontsize="small", color=drawing.INK)
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


def _panel(axes: Axes, target: str, grid: pd.DataFrame, fits: pd.DataFrame, reach: float) -> QuadMesh:
    drawing.style(axes)
    values = np.log2(grid.to_numpy(float))
    mesh = axes.pcolormesh(values, cmap=colormaps["RdBu"], norm=Normalize(-reach, reach), edgecolors="white", lw=0.6)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            ink = "white" if abs(value) > 0.6 * reach else drawing.INK
            text = times_text(2.0**value).removesuffix("x")
            if not fits.iat[row, column]:
                axes.add_patch(Rectangle((column, row), 1, 1, fill=False, ec=drawing.GREY, hatch="///", lw=0))
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize="small", color=ink, zorder=4)
    axes.set_xticks(np.arange(len(grid.columns)) + 0.5, [f"{batch:,}" for batch in grid.columns])
    axes.set_yticks(np.arange(len(grid)) + 0.5, [f"{context:,}" for context in grid.index])
    axes.set_title(safe(target, 34, lines=2), fontsize="medium", color=drawing.INK)
    axes.set_xlabel("sequences")
    return mesh
