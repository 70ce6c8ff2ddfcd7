"""From the ideal speedup to the real one, for every run of one configuration."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from reports.figures import drawing
from reports.figures.drawing import safe
from reports.figures.layers import configuration, left_out, shown_of
from reports.tables.sums import groups
from reports.tables.waterfall import IDEAL, LOSSES, REAL, waterfall_table
from reports.words.present import times_text

_WHAT = "From the ideal speedup to the real one"
_ROW = 0.15  # inches a bar takes
_LOOKS = dict(
    zip(
        [IDEAL, *LOSSES.values(), REAL],
        [drawing.LIGHT_GREY, drawing.SKY, drawing.PURPLE, drawing.YELLOW, drawing.VERMILLION, drawing.BLUE],
        strict=True,
    )
)


def waterfall_figure(rows: pd.DataFrame) -> Figure:
    rows, title = configuration(rows)
    steps = waterfall_table(rows)
    if steps.empty:
        return drawing.empty_figure(_WHAT, title, "Nothing is pruned here that could run.")
    each = list(groups(steps, ["run"]))
    each = each[: shown_of(len(each))]
    known = [name for name in _LOOKS if (steps["step"] == name).any()]
    figure = drawing.new_figure(7.2, 1.3 + _ROW * (len(known) + 1) * len(each), _WHAT, title + left_out(rows))
    axes = figure.add_subplot()
    ticks = []
    bars: dict[str, list[tuple[float, float, float]]] = {}  # {step: (y, length, begin) of each}: drawn all at once
    for number, (key, part) in enumerate(each):
        top = number * (len(known) + 1)
        ticks.append((top + (len(part) - 1) / 2, key["run"]))
        for place, line in enumerate(part.itertuples(), start=top):
            left, right = sorted((line.begin, line.end))
            bars.setdefault(line.step, []).append((place, right - left, left))
            axes.annotate(times_text(line.end), (right, place), xytext=(3, 0), textcoords="offset points",
                          va="center", fontsize="x-small", color=drawing.INK)  # fmt: skip
    for step, each_bar in bars.items():
        y, length, begin = zip(*each_bar, strict=True)
        axes.barh(y, length, left=begin, height=0.85, color=_LOOKS[step], linewidth=0)
    drawing.style(axes, grid="x")
    axes.axvline(1, color=drawing.SLOW_INK, linewidth=1)
    axes.set_yticks([place for place, _ in ticks], [safe(run, 26, lines=1) for _, run in ticks])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(each) * (len(known) + 1) - 1, -1)
    axes.set_xlim(0, axes.get_xlim()[1] * 1.08)
    axes.set_xlabel("speedup over dense, after each loss")
    handles = [Patch(color=_LOOKS[name], label=name) for name in known]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize="small", frameon=False)
    return figure
