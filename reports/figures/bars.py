"""Where the cycles and the energy of one configuration go: stacked bars per role, a mean a layer, below the dense bar.

Each takes the result rows of one configuration and returns a Figure. Layers that are not counted (the target cannot
run them) are drawn as such, never as zero.
"""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reports.figures import drawing
from reports.figures.drawing import safe
from reports.figures.layers import configuration, left_out, roles_of, series
from reports.tables.parts import DENSE, energy_table, part_table
from reports.tables.sums import groups
from reports.words.present import quantity_text
from reports.words.units import ENERGIES, fitting

_ROW = 0.19  # inches a bar takes


# Work in blues, waiting in colours and hatches of its own, for eyes that see no colour.
_LOOKS: dict[str, dict[str, Any]] = {
    "ideal compute": {"facecolor": drawing.BLUE},
    "imbalance": {"facecolor": drawing.SKY},
    "DRAM stall": {"facecolor": drawing.VERMILLION, "hatch": "////", "edgecolor": "white"},
    "buffer stall": {"facecolor": drawing.YELLOW, "hatch": "xxx", "edgecolor": drawing.GREY},
    "MACs": {"facecolor": drawing.BLUE},
    "idle MAC slots": {"facecolor": drawing.SKY},
    "registers": {"facecolor": drawing.GREEN},
    "buffers": {"facecolor": drawing.YELLOW, "hatch": "xxx", "edgecolor": drawing.GREY},
    "DRAM": {"facecolor": drawing.VERMILLION, "hatch": "////", "edgecolor": "white"},
    "dense, not split": {"facecolor": drawing.GREY},
}


def bars_figure(rows: pd.DataFrame) -> Figure:
    """Mean cycles a layer, split into work and waiting; waiting for buffers is a part of its own where there is any."""
    rows, title = configuration(rows)
    table = part_table(rows)
    axis = "mean cycles per layer; label: speedup over dense"
    return _figure(rows, title, table, "Where the cycles go", axis, "No layer can run on this target.")


def energy_figure(rows: pd.DataFrame) -> Figure:
    """Mean energy a layer, split into its five parts."""
    rows, title = configuration(rows)
    table = energy_table(rows)
    unit = fitting(ENERGIES, table["whole"].max() if len(table) else 0.0)
    if len(table):
        table = table.assign(**{name: table[name] / unit.size for name in ("amount", "begin", "whole")})
    axis = f"mean energy per layer ({unit.text}); label: dense / masked energy"
    return _figure(rows, title, table, "Where the energy goes", axis, "No energy is known here.")


def _figure(rows: pd.DataFrame, title: str, table: pd.DataFrame, what: str, axis: str, nothing: str) -> Figure:
    if table.empty:
        return drawing.empty_figure(what, title, nothing)
    roles, runs = roles_of(rows), [name for name, _ in series(rows)]
    figure = drawing.new_figure(7.2, 1.5 + _ROW * len(roles) * (len(runs) + 2), what, title + left_out(rows))
    axes = figure.add_subplot()
    ticks: list[tuple[float, str, bool]] = []  # (y, label, is a heading)
    run_there = set(zip(rows["role"], rows["method"], strict=True))
    parts, bars = dict(_bars_of(table)), _Bars()
    y = 0.0
    for role in roles:
        ticks += [(y, role, True), (y + 1, DENSE, False)]
        dense = _dense_bar(axes, y + 1, parts.get((role, DENSE)), len(runs), bars)
        for number, run in enumerate(runs, start=2):
            ticks.append((y + number, run, False))
            there = any((role, method) in run_there for method in (run, run.rpartition(" ")[0]))
            nothing = "cannot run" if there else "no such layer"
            _sparse_bar(axes, y + number, parts.get((role, run)), dense, nothing, bars)
        y += len(runs) + 2.3
    bars.draw(axes)
    _finish(axes, ticks, axis)
    handles = [Patch(label=name, **_LOOKS[name]) for name in _LOOKS if (table["part"] == name).any()]
    look: dict[str, Any] = {"fontsize": "small", "frameon": False, "handlelength": 1.4}
    figure.legend(handles=handles, loc="outside lower center", ncols=6, **look)
    return figure


def _bars_of(table: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    for key, part in groups(table, ["role", "run"]):
        yield (key["role"], key["run"]), part


def _dense_bar(axes: Axes, y: float, parts: pd.DataFrame | None, below: int, bars: "_Bars") -> float:
    """Draws the dense bar and the line at its end down through `below` bars; returns its length."""
    if parts is None:
        _label(axes, 0, y, "does not fit", drawing.GREY)
        return 0.0
    end = bars.add(y, parts)
    # Down through the bars below: whatever crosses it is worse than dense.
    axes.plot([end, end], [y - 0.4, y + below + 0.45], color=drawing.INK, linewidth=0.9, linestyle=(0, (3, 2)))
    _label(axes, end, y, quantity_text(end) if end < 100 else f"{end:,.0f}", drawing.INK)
    return end


def _sparse_bar(axes: Axes, y: float, parts: pd.DataFrame | None, dense: float, nothing: str, bars: "_Bars") -> None:
    if parts is None:
        _label(axes, 0, y, nothing, drawing.GREY)
        return
    end, line = bars.add(y, parts), parts.iloc[0]
    slow = line["ratio"] < 1
    some = f" ({line['ran']:.0f} of {line['ran'] + line['out']:.0f} layers)" if line["out"] else ""
    colour = drawing.SLOW_INK if slow else drawing.INK
    text = line["said"].removeprefix(line["run"]).strip() or "no dense baseline"
    # Beyond the dense line, which would cross the label.
    _label(axes, max(end, dense), y, text + some, colour, bold=slow)


class _Bars:
    """Bars to draw, all of one part at once: one by one takes most of a figure's time."""

    def __init__(self) -> None:
        self._parts: dict[str, list[tuple[float, float, float]]] = {}

    def add(self, y: float, parts: pd.DataFrame) -> float:
        """The parts behind each other; returns where they end."""
        for name, amount, begin in zip(parts["part"], parts["amount"], parts["begin"], strict=True):
            self._parts.setdefault(name, []).append((y, amount, begin))
        return float(parts["whole"].iloc[0])

    def draw(self, axes: Axes) -> None:
        for name, bars in self._parts.items():
            y, amount, begin = zip(*bars, strict=True)
            axes.barh(y, amount, left=begin, height=0.8, linewidth=0, **_LOOKS[name])


def _label(axes: Axes, x: float, y: float, text: str, colour: str, bold: bool = False) -> None:
    weight = "bold" if bold else "normal"
    card = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    place: dict[str, Any] = {"xytext": (5, 0), "textcoords": "offset points", "va": "center", "bbox": card}
    axes.annotate(text, (x, y), fontsize="small", color=colour, fontweight=weight, **place)


def _finish(axes: Axes, ticks: list[tuple[float, str, bool]], axis: str) -> None:
    drawing.style(axes, grid="x")
    axes.set_yticks([y for y, _, _ in ticks], [safe(label, 26, lines=1) for _, label, _ in ticks])
    for tick, (_, _, is_heading) in zip(axes.get_yticklabels(), ticks, strict=True):
        tick.set_fontweight("bold" if is_heading else "normal")
        tick.set_fontsize("medium" if is_heading else "small")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(ticks[-1][0] + 0.8, -0.7)
    axes.set_xlim(0, axes.get_xlim()[1] * 1.3)  # for the labels behind the bars
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.set_xlabel(axis)
