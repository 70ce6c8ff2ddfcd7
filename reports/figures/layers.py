"""Speedup of one configuration (model, target, settings, level, source, tokens, activations) by place.

The figure takes the result rows of that configuration. Layers that are not counted (the target
cannot run them) are drawn as such, never as zero.
"""

import math
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reports.figures import drawing
from reports.figures.drawing import safe
from reports.limits import EXAMPLES, MOST_ROLES, MOST_SERIES
from reports.tables.sums import CONFIG, MASKS, checked, counted, counted_mask, groups, ratios, totals
from reports.words.naming import config_text, run_text
from reports.words.present import times_text
from workloads.layers import role_rank

MARKERS = (
    ("o", drawing.BLUE), ("s", drawing.VERMILLION), ("^", drawing.GREEN), ("D", drawing.PURPLE),
    ("v", drawing.ORANGE), ("P", drawing.BLACK), ("X", drawing.SKY), ("*", drawing.GREY),
)  # fmt: skip
_WHAT = "Speedup by block and role"
_PANELS_A_LINE = 4
_MOST_NUMBERED_CELLS = 160  # more numbers than that, and none can be read


def configuration(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Sorted rows and their title; refuses rows that must not share a figure."""
    rows = checked(rows)
    keys = [key for key, _ in groups(rows, CONFIG)]
    if len(keys) > 1:
        raise ValueError(f"one figure holds one configuration, not {len(keys)}: {keys[:2]}")
    return rows, config_text(keys[0])


def series(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(name, rows) of each method and pattern, as many as a figure holds."""
    for key, group in islice(groups(rows, MASKS), shown_of(_runs(rows))):
        yield run_text(key), group


def shown_of(runs: int) -> int:
    """How many of so many methods and patterns a figure shows."""
    return runs if runs <= MOST_SERIES else EXAMPLES


def _runs(rows: pd.DataFrame) -> int:
    return len(rows[MASKS].drop_duplicates())


def left_out(rows: pd.DataFrame) -> str:
    """What a title says of the methods, patterns and roles that a figure has no room for."""
    methods, roles = _runs(rows), rows["role"].nunique()
    said = f"; {shown_of(methods)} of {methods:,} methods and patterns" if methods > MOST_SERIES else ""
    return said + (f"; {MOST_ROLES} of {roles:,} roles" if roles > MOST_ROLES else "")


def roles_of(rows: pd.DataFrame) -> list[str]:
    return sorted(rows["role"].unique(), key=role_rank)[:MOST_ROLES]


def heatmap_figure(rows: pd.DataFrame) -> Figure:
    """Speedup by block and role, one panel a method and pattern; colours diverge from 1x on a log2 scale."""
    rows, title = configuration(rows)
    if counted(rows).empty:
        return drawing.empty_figure(_WHAT, title, "No layer can run on this target.")
    roles, blocks = roles_of(rows), sorted(rows["block"].fillna(-1).unique())
    panels = [(label, *_grid(group, blocks, roles)) for label, group in series(rows)]
    known = np.concatenate([grid[np.isfinite(grid)] for _, grid, _ in panels])
    reach = max(float(np.abs(known).max(initial=0.0)), math.log2(1.1))
    columns = min(_PANELS_A_LINE, len(panels))
    lines = -(-len(panels) // columns)
    width = columns * max(1.6, 0.3 * len(roles) + 0.2) + 1.3
    names = 0.09 * min(16, max(map(len, roles)))  # role names stand upright below each panel
    height = lines * (max(0.5, 0.16 * len(blocks)) + 0.9 + names) + 0.9
    figure = drawing.new_figure(max(width, 5.0), height, _WHAT, title + left_out(rows))
    axes = figure.subplots(lines, columns, squeeze=False)
    numbered = len(panels) * len(blocks) * len(roles) <= _MOST_NUMBERED_CELLS
    norm = Normalize(-reach, reach)
    for number, place in enumerate(axes.flat):
        if number >= len(panels):
            place.set_visible(False)
            continue
        label, grid, barred = panels[number]
        mesh = place.pcolormesh(
            grid,
            cmap=colormaps["RdBu"],
            norm=norm,
            edgecolors="white",
            linewidth=0.4,
            rasterized=grid.size * len(panels) > drawing.MANY,
        )
        _finish_panel(place, label, grid, barred, strong_from=0.6 * reach if numbered else 0.0)
        _grid_ticks(place, blocks, roles, with_blocks=number % columns == 0)
    _colour_bar(figure, mesh, axes, reach)
    return figure


def _grid(rows: pd.DataFrame, blocks: list[int], roles: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(log2 speedup, cannot run), both (blocks, roles); NaN where nothing is known."""
    rows = rows[rows["role"].isin(roles)]
    fine = counted_mask(rows)
    place = np.searchsorted(blocks, rows["block"].fillna(-1).to_numpy(np.int64)) * len(roles)
    place += rows["role"].map({role: number for number, role in enumerate(roles)}).to_numpy(np.int64)
    size = len(blocks) * len(roles)
    dense, own = (totals(rows.loc[fine, name], place[fine], size) for name in ("dense_cycles", "cycles"))
    speedup = ratios(dense, own)
    grid = np.log2(speedup, out=np.full(size, np.nan), where=speedup > 0)
    grid[~np.isfinite(grid)] = np.nan
    there, ran = (np.bincount(cells, minlength=size) > 0 for cells in (place, place[fine]))
    shape = len(blocks), len(roles)
    return grid.reshape(shape), (there & ~ran).reshape(shape)


def _finish_panel(axes: Axes, label: str, grid: np.ndarray, barred: np.ndarray, strong_from: float) -> None:
    """Title with the count of slowdowns, crosses where nothing can run; numbers unless `strong_from` is 0.

    Numbers of cells beyond `strong_from` (log2) are white, because those cells are dark.
    """
    drawing.style(axes)
    slow, known = int((grid < 0).sum()), int(np.isfinite(grid).sum())
    note = f"{slow} of {known} slower than dense"
    note += f", {barred.sum()} cannot run" if barred.any() else ""
    axes.set_title(f"{safe(label, 24, lines=2)}\n{safe(note, 28)}", fontsize="small", color=drawing.INK)
    for row, column in np.argwhere(barred):
        axes.add_patch(Rectangle((column, row), 1, 1, facecolor="white", edgecolor=drawing.GREY, hatch="xxx", lw=0))
    if not strong_from:
        return
    for (row, column), value in np.ndenumerate(grid):
        if np.isfinite(value):
            colour = "white" if abs(value) > strong_from else drawing.INK
            text = times_text(2.0**value).removesuffix("x")
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize="xx-small", color=colour)


def _grid_ticks(axes: Axes, blocks: list[int], roles: list[str], with_blocks: bool) -> None:
    turn = 90 if max(map(len, roles)) > 2 else 0
    axes.set_xticks(np.arange(len(roles)) + 0.5, [safe(role, 16, lines=1) for role in roles], rotation=turn)
    axes.set_xlim(0, len(roles))
    axes.set_ylim(len(blocks), 0)
    step = max(1, len(blocks) // 16)
    names = [("outside" if block < 0 else str(block)) for block in blocks[::step]]
    axes.set_yticks(np.arange(0, len(blocks), step) + 0.5, names if with_blocks else [])
    if with_blocks:
        axes.set_ylabel("block")
    else:
        axes.tick_params(axis="y", length=0)


def _colour_bar(figure: Figure, mesh, axes: np.ndarray, reach: float) -> None:
    bar = figure.colorbar(mesh, ax=list(axes.flat), shrink=0.9, aspect=22, pad=0.02)
    steps = (1.02, 1.05, 1.1, 1.25, 1.5, 2, 3, 4, 8, 16, 32, 64)
    ticks = [0.0]
    for step in steps:
        exponent = math.log2(step)
        if exponent <= reach and exponent - ticks[-1] >= reach / 4:
            ticks.append(exponent)
    ticks = sorted({-tick for tick in ticks} | set(ticks))
    bar.set_ticks(ticks, labels=[f"{2.0**tick:.2f}x" for tick in ticks])
    bar.ax.tick_params(labelsize="small", colors=drawing.INK, length=2)
    bar.set_label("slower than dense  |  faster", fontsize="small", color=drawing.INK)
    bar.outline.set_visible(False)
