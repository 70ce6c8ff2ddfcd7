"""Where the cycles and the energy of one configuration go: stacked bars per role, a mean a layer, below the dense bar.

Each takes the result rows of one configuration and returns a Figure. Layers that are not counted (the target cannot
run them) are drawn as such, never as zero.
"""

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reports.figures import drawing
from reports.figures.drawing import safe
from reports.figures.layers import configuration, left_out, roles_of, series
from reports.tables.sums import ENERGY_PARTS, counted, no_baseline, sums
from reports.words.present import cell, quantity_text
from reports.words.units import ENERGIES, fitting

_ROW = 0.19  # inches a bar takes
_HATCH = "////"


@dataclass(frozen=True)
class Part:
    """One colour of a bar; `hatch` sets apart what is no work of the array, for eyes that see no colour."""

    column: str
    name: str
    colour: str
    hatch: str | None = None
    edge: str = "white"

    @property
    def look(self) -> dict[str, Any]:
        return {"facecolor": self.colour, "hatch": self.hatch, "edgecolor": self.edge, "linewidth": 0}


@dataclass(frozen=True)
class Measure:
    """What the bars of a figure are lengths of. `ratio`: the column of `sums` that labels a bar."""

    title: str
    axis: str
    parts: tuple[Part, ...]
    dense: tuple[Part, ...]
    ratio: str
    whole: bool  # lengths are counts, printed without decimals
    unit: float = 1.0  # of a length, in the unit of the columns


# Work in blues, waiting in colours and hatches of its own.
CYCLES = Measure(
    "Where the cycles go",
    "mean cycles per layer; label: speedup over dense",
    (
        Part("ideal_cycles", "ideal compute", drawing.BLUE),
        Part("imbalance_cycles", "imbalance", drawing.SKY),
        Part("memory_stall_cycles", "memory stall", drawing.VERMILLION, _HATCH),
        Part("buffer_stall_cycles", "buffer stall", drawing.YELLOW, "xxx", drawing.GREY),
    ),
    (
        Part("dense_compute_cycles", "dense compute", drawing.GREY),
        Part("dense_stall_cycles", "dense stall", drawing.LIGHT_GREY, _HATCH, drawing.GREY),
    ),
    "speedup",
    whole=True,
)
_ENERGY_LOOKS = (
    ("MACs", drawing.BLUE, None), ("idle MAC slots", drawing.SKY, None), ("registers", drawing.GREEN, None),
    ("buffers", drawing.YELLOW, "xxx"), ("DRAM", drawing.VERMILLION, _HATCH),
)  # fmt: skip
ENERGY = Measure(
    "Where the energy goes",
    "mean energy per layer ({unit}); label: dense / masked energy",
    tuple(
        Part(column, *look, drawing.GREY if look[0] == "buffers" else "white")
        for column, look in zip(ENERGY_PARTS, _ENERGY_LOOKS, strict=True)
    ),
    (Part("dense_energy_pj", "dense, not split", drawing.GREY),),
    "energy_ratio",
    whole=False,
)


def bars_figure(rows: pd.DataFrame) -> Figure:
    """Mean cycles a layer, split into work and waiting; waiting for buffers is a part of its own where there is any."""
    rows, title = configuration(rows)
    buffers = rows["buffer_stall_cycles"].fillna(0)
    # Where the dense run is not split, its whole bar is drawn as work.
    dense_compute = rows["dense_compute_cycles"].fillna(rows["dense_cycles"])
    rows = rows.assign(
        buffer_stall_cycles=buffers,
        memory_stall_cycles=rows["stall_cycles"] - buffers,
        dense_compute_cycles=dense_compute,
        dense_stall_cycles=rows["dense_cycles"] - dense_compute,
    )
    return _figure(rows, title, CYCLES, "No layer can run on this target.")


def energy_figure(rows: pd.DataFrame) -> Figure:
    """Mean energy a layer, split into its five parts; of the dense run only the total is known."""
    rows, title = configuration(rows)
    dense = rows["dense_energy_pj"].notna() | no_baseline(rows)
    rows = rows.assign(feasible=rows["feasible"] & rows["energy_pj"].notna() & dense)
    used = counted(rows)
    largest = used[["energy_pj", "dense_energy_pj"]].max(axis=None) if len(used) else 0.0
    unit = fitting(ENERGIES, largest)
    measure = replace(ENERGY, axis=ENERGY.axis.format(unit=unit.text), unit=unit.size)
    return _figure(rows, title, measure, "No energy is known here.")


def _figure(rows: pd.DataFrame, title: str, measure: Measure, nothing: str) -> Figure:
    used = counted(rows)
    if used.empty:
        return drawing.empty_figure(measure.title, title, nothing)
    roles, each = roles_of(rows), list(series(rows))
    slots = len(roles) * (len(each) + 2)
    figure = drawing.new_figure(7.2, 1.5 + _ROW * slots, measure.title, title + left_out(rows))
    axes = figure.add_subplot()
    ticks: list[tuple[float, str, bool]] = []  # (y, label, is a heading)
    y = 0.0
    for role in roles:
        ticks.append((y, role, True))
        ticks.append((y + 1, "dense", False))
        dense = _dense_bar(axes, y + 1, used[used["role"] == role], len(each), measure)
        for number, (label, group) in enumerate(each, start=2):
            ticks.append((y + number, label, False))
            _sparse_bar(axes, y + number, group[group["role"] == role], dense, measure)
        y += len(each) + 2.3
    _finish(axes, ticks, measure)
    _legend(figure, used, measure)
    return figure


def _dense_bar(axes: Axes, y: float, used: pd.DataFrame, below: int, measure: Measure) -> float:
    """Draws the dense bar and the line at its end down through `below` bars; returns its length."""
    layers = used.drop_duplicates("layer")
    if layers.empty:
        return 0.0
    if layers[[part.column for part in measure.dense]].isna().any(axis=None):
        _label(axes, 0, y, "does not fit", drawing.GREY)
        return 0.0
    left = 0.0
    for part in measure.dense:
        width = layers[part.column].mean() / measure.unit
        axes.barh(y, width, left=left, height=0.8, **part.look)
        left += width
    # Down through the bars below: whatever crosses it is worse than dense.
    axes.plot([left, left], [y - 0.4, y + below + 0.45], color=drawing.INK, linewidth=0.9, linestyle=(0, (3, 2)))
    _label(axes, left, y, f"{left:,.0f}" if measure.whole else quantity_text(left), drawing.INK)
    return left


def _sparse_bar(axes: Axes, y: float, rows: pd.DataFrame, dense: float, measure: Measure) -> None:
    """Means over layers and seeds."""
    used = counted(rows)
    if rows.empty or used.empty:
        _label(axes, 0, y, "cannot run" if len(rows) else "no such layer", drawing.GREY)
        return
    left = 0.0
    for part in measure.parts:
        width = used[part.column].mean() / measure.unit
        if not pd.isna(width) and width > 0:
            axes.barh(y, width, left=left, height=0.8, **part.look)
            left += width
    whole = sums(rows)
    said = cell(measure.ratio, whole[measure.ratio], whole[f"{measure.ratio}_spread"])
    left_out = whole["infeasible_layers"]
    some = f" ({whole['layers']} of {whole['layers'] + left_out} layers)" if left_out else ""
    colour = drawing.SLOW_INK if said.worse else drawing.INK
    end = max(left, dense)  # beyond the dense line, which would cross the label
    _label(axes, end, y, said.text + some, colour, bold=said.worse)


def _label(axes: Axes, x: float, y: float, text: str, colour: str, bold: bool = False) -> None:
    weight = "bold" if bold else "normal"
    card = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    place: dict[str, Any] = {"xytext": (5, 0), "textcoords": "offset points", "va": "center", "bbox": card}
    axes.annotate(text, (x, y), fontsize=7.5, color=colour, fontweight=weight, **place)


def _finish(axes: Axes, ticks: list[tuple[float, str, bool]], measure: Measure) -> None:
    drawing.style(axes, grid="x")
    axes.set_yticks([y for y, _, _ in ticks], [safe(label, 26, lines=1) for _, label, _ in ticks])
    for tick, (_, _, is_heading) in zip(axes.get_yticklabels(), ticks, strict=True):
        tick.set_fontweight("bold" if is_heading else "normal")
        tick.set_fontsize(8.5 if is_heading else 7.5)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(ticks[-1][0] + 0.8, -0.7)
    room = 1.2 if measure.whole else 1.3
    axes.set_xlim(0, axes.get_xlim()[1] * room)  # for the labels behind the bars
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,.0f}" if measure.whole else f"{value:,.6g}")
    )
    axes.set_xlabel(measure.axis)


def _legend(figure: Figure, used: pd.DataFrame, measure: Measure) -> None:
    """Every colour but that of buffer stalls where there are none."""
    shown = [part for part in measure.parts if part.column != "buffer_stall_cycles" or used[part.column].sum() > 0]
    handles = [Patch(label=part.name, **part.look) for part in [*shown, *measure.dense]]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=7.5, frameon=False, handlelength=1.4)
