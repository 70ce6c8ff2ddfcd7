"""Where the time of whole models goes: a bar for each method, as long as its time over dense, divided by kind of
operation."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from reports.figures import drawing
from reports.figures.drawing import safe
from reports.tables.serving import GROUPS
from reports.words.present import times_text
from reports.words.serving import percent, sequences

WHAT = "Where the time goes"
COLOURS = {
    "linears": drawing.BLUE, "experts": drawing.PURPLE, "attention": drawing.ORANGE, "elementwise": drawing.GREEN,
    "head": drawing.SKY, "communication": drawing.YELLOW, "host": drawing.LIGHT_GREY,
}  # fmt: skip
_LIGHT = ("head", "communication", "host", "attention")  # dark letters on them
_LETTERS = 0.075  # share of the axis that a percentage needs


def shares_figure(panels: list[tuple[int, pd.DataFrame]], where: str) -> Figure:
    """(batch, its lines, dense among them) of one target, a panel each."""
    most = max(len(lines) for _, lines in panels)
    figure = drawing.new_figure(4.7 * len(panels) + 0.8, 1.5 + 0.36 * most, WHAT, where)
    axes = figure.subplots(1, len(panels), squeeze=False, sharex=True)[0]
    used = [name for name in GROUPS if any(lines[f"{name}_share"].fillna(0).max() > 0.005 for _, lines in panels)]
    for place, (batch, lines) in zip(axes, panels, strict=True):
        _panel(place, batch, lines, used)
    handles = [Patch(facecolor=COLOURS[name], label=GROUPS[name]) for name in used]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize="small", frameon=False)
    return figure


def _panel(axes: Axes, batch: int, lines: pd.DataFrame, used: list[str]) -> None:
    drawing.style(axes, grid="x")
    lengths = (1 / lines["speedup"]).tolist()
    reach = 1.42 * max([*lengths, 1.0])
    for y, (length, (_, line)) in enumerate(zip(lengths, lines.iterrows(), strict=True)):
        left = 0.0
        for name in used:
            share = float(line[f"{name}_share"]) if pd.notna(line[f"{name}_share"]) else 0.0
            axes.barh(y, share * length, left=left, height=0.74, color=COLOURS[name], edgecolor="white", linewidth=0.6)
            if share * length > _LETTERS * reach:
                ink = drawing.INK if name in _LIGHT else "white"
                axes.text(left + share * length / 2, y, percent(share), ha="center", va="center", color=ink,
                          fontsize="x-small")  # fmt: skip
            left += share * length
        slow = line["verdict"] == "slower"
        said = times_text(line["speedup"]) + ("" if line["usable"] else ", does not fit")
        axes.annotate(said, (max(length, 1.0), y), xytext=(4, 0), textcoords="offset points", va="center",
                      fontsize="small",
                      color=drawing.SLOW_INK if slow else drawing.INK)  # fmt: skip
    axes.axvline(1, color=drawing.INK, linewidth=0.9, linestyle=(0, (3, 2)))
    axes.set_yticks(range(len(lines)), [safe(name, 20, lines=1) for name in lines["method"]])
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, reach)
    axes.set_xlabel("time / time of the dense model")
    axes.set_title(sequences(batch), fontsize="medium", color=drawing.INK)
