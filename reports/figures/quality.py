"""Perplexity over the target, a line per method: sparsities on an axis of their own, N:M patterns and what is not
pruned beside it.

Family resemblance: a method with quantized weights has the colour of the method whose name its own begins with, a
broken line and a hollow mark; no two methods share both mark and colour."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from reports.figures import drawing
from reports.figures.drawing import safe
from reports.tables.quality import DENSE, EVALUATION, LINE, ordered_targets
from reports.tables.sums import groups
from reports.words.present import cell

COLOURS = (
    drawing.BLUE, drawing.VERMILLION, drawing.GREEN, drawing.PURPLE, drawing.ORANGE, drawing.BLACK, drawing.SKY,
    drawing.GREY,
    drawing.BROWN, drawing.VIOLET,
)  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", "h", ">", "*")
_WHAT = "Perplexity after pruning"
_LOG_FROM = 3.0  # highest / lowest perplexity from which the axis is logarithmic
_REACH = 20.0  # times the median perplexity: what lies above is named below the figure, not drawn
_SPREAD_OUT = 0.7  # share of the room between two patterns over which the marks of the methods lie side by side
_SET_APART = 0.1  # the same between two sparsities, so that bars over seeds do not hide each other


@dataclass(frozen=True)
class _Series:
    label: str
    colour: str
    marker: str
    quantized: bool
    cells: pd.DataFrame

    @property
    def look(self) -> dict:
        return {
            "color": self.colour, "marker": self.marker, "markersize": 5, "linewidth": 1.1, "markeredgewidth": 1,
            "markerfacecolor": "white" if self.quantized else self.colour, "linestyle": "--" if self.quantized else "-",
        }  # fmt: skip


def quality_figure(perplexities: pd.DataFrame) -> Figure:
    """`perplexities`: lines of `perplexity_table`, of one evaluation. Marks are means over the seeds, bars reach from
    the lowest to the highest seed."""
    keys = [key for key, _ in groups(perplexities, EVALUATION)]
    if len(keys) != 1:
        raise ValueError(f"one figure holds one evaluation, not {len(keys)}")
    where = f"{keys[0]['model']}, {keys[0]['text']}, {keys[0]['windows']} windows of {keys[0]['seq_len']} tokens"
    dense = float(perplexities["dense_perplexity"].iloc[0])
    pruned = perplexities[(perplexities["method"] != DENSE) & perplexities["perplexity"].notna()]
    if not np.isfinite(pruned["perplexity"]).any():
        return drawing.empty_figure(_WHAT, where, "No perplexity is a finite number.")
    series = list(_series(pruned))
    sparsities = sorted(pruned.loc[_on_axis(pruned), "target_sparsity"].unique())
    names = ordered_targets(pruned[~_on_axis(pruned)])
    figure = drawing.new_figure(9.0, 4.4 + 0.17 * math.ceil(len(series) / 3), _WHAT, where)
    widths = [max(2.0, 1.3 * len(sparsities))] * bool(sparsities) + [1.5 * len(names)] * bool(names)
    panels = list(figure.subplots(1, len(widths), sharey=True, squeeze=False, width_ratios=widths).flat)
    ceiling = _ceiling(pruned)
    if sparsities:
        _sparsity_panel(panels[0], series, sparsities, ceiling)
    if names:
        _pattern_panel(panels[-1], series, names, ceiling)
    _finish(panels, pruned, dense, ceiling)
    _legend(figure, series, dense, pruned[pruned["perplexity"] > ceiling])
    return figure


def _series(pruned: pd.DataFrame) -> Iterator[_Series]:
    """Colours by family, marks by method."""
    lines = [(key["method"], not pd.isna(key["weight_bits"]), cells) for key, cells in groups(pruned, LINE)]
    families: dict[str, str] = {}
    parents = [name for name, quantized, _ in lines if not quantized]
    for number, (name, quantized, cells) in enumerate(lines):
        parent = max((p for p in parents if quantized and name.startswith(p)), key=len, default=name)
        colour = families.setdefault(parent, COLOURS[len(families) % len(COLOURS)])
        yield _Series(name, colour, MARKERS[number % len(MARKERS)], quantized, cells)


def _on_axis(cells: pd.DataFrame) -> pd.Series:
    """What has a place on the sparsity axis: unstructured and pruned."""
    return ~cells["pattern"].str.contains(":") & (cells["target_sparsity"] > 0)


def _ceiling(pruned: pd.DataFrame) -> float:
    """Perplexities above it are not drawn: one diverged run would press all others into a line."""
    return _REACH * float(pruned.loc[np.isfinite(pruned["perplexity"]), "perplexity"].median())


def _sparsity_panel(axes: Axes, series: list[_Series], sparsities: list[float], ceiling: float) -> None:
    ticks = [100 * sparsity for sparsity in sparsities]
    room = min((right - left for left, right in itertools.pairwise(ticks)), default=10.0)
    here = [each for each in series if _on_axis(each.cells).any()]
    for number, each in enumerate(here):
        cells = each.cells[_on_axis(each.cells)].sort_values("target_sparsity")
        shift = room * _SET_APART * ((number + 0.5) / len(here) - 0.5)
        _draw(axes, 100 * cells["target_sparsity"].to_numpy() + shift, cells, each, ceiling)
    axes.set_xlim(ticks[0] - room / 8, ticks[-1] + room / 8)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlabel("sparsity asked for (%)")


def _pattern_panel(axes: Axes, series: list[_Series], names: list[str], ceiling: float) -> None:
    """A column a name, the methods side by side in it in the order of the legend."""
    for place, name in enumerate(names):
        here = [(each, each.cells[each.cells["target_name"] == name]) for each in series]
        here = [(each, cells) for each, cells in here if len(cells)]
        for number, (each, cells) in enumerate(here):
            shift = _SPREAD_OUT * ((number + 0.5) / len(here) - 0.5)
            _draw(axes, np.full(len(cells), place + shift), cells, each, ceiling)
        if place:
            axes.axvline(place - 0.5, color=drawing.FAINT, linewidth=0.8)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_xticks(range(len(names)), [safe(name, 14, lines=1) for name in names])
    axes.set_xlabel("pattern")


def _draw(axes: Axes, x: np.ndarray, cells: pd.DataFrame, each: _Series, ceiling: float) -> None:
    """A mark a cell with a bar over its seeds; at the upper edge what is beyond it, where its line leaves the
    figure."""
    beyond = (cells["perplexity"] > ceiling).to_numpy()
    means, low, high = (
        np.minimum(cells[name].to_numpy(), 100 * ceiling)
        for name in ("perplexity", "perplexity_low", "perplexity_high")
    )
    bars = np.where(beyond, 0, np.maximum([means - low, high - means], 0))
    axes.errorbar(x, means, yerr=bars, capsize=2, elinewidth=0.9, **each.look)
    for place in x[beyond]:
        mark = axes.plot(place, 0.985, transform=axes.get_xaxis_transform(), **each.look)
        mark[0].set_in_layout(False)


def _finish(panels: list[Axes], pruned: pd.DataFrame, dense: float, ceiling: float) -> None:
    drawn = pruned[pruned["perplexity"] <= ceiling]
    low, high = float(np.nanmin([dense, drawn["perplexity_low"].min()])), float(drawn["perplexity_high"].max())
    logarithmic = high / low > _LOG_FROM
    for number, axes in enumerate(panels):
        drawing.style(axes, grid="y")
        if not math.isnan(dense):
            axes.axhline(dense, color=drawing.INK, linewidth=1, linestyle=(0, (1, 2)))
        if number:
            axes.tick_params(axis="y", length=0)
            axes.spines["left"].set_visible(False)
    first = panels[0]
    first.set_ylabel("perplexity (log scale)" if logarithmic else "perplexity")
    if logarithmic:
        first.set_yscale("log")
        subs = (1, 2, 5) if high / low > 30 else (1, 1.5, 2, 3, 4, 5, 7)
        first.yaxis.set_major_locator(LogLocator(subs=subs))
        first.yaxis.set_minor_locator(NullLocator())
        first.set_ylim(low / 1.1, high * (1.12 if len(drawn) == len(pruned) else 1.6))
    else:
        room = 0.08 * (high - low) or 0.1 * low
        first.set_ylim(low - room, high + room * (1 if len(drawn) == len(pruned) else 2))
    first.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))


def _legend(figure: Figure, series: list[_Series], dense: float, beyond: pd.DataFrame) -> None:
    handles = [Line2D([], [], label=safe(each.label, 34, lines=1), **each.look) for each in series]
    if not math.isnan(dense):
        said = f"dense: {cell('perplexity', dense).text}"
        handles.append(Line2D([], [], color=drawing.INK, linewidth=1, linestyle=(0, (1, 2)), label=said))
    notes = ["hollow mark, broken line: quantized weights"] if any(each.quantized for each in series) else []
    if any((each.cells["seeds"] > 1).any() for each in series):
        notes.append("bar: lowest to highest seed")
    if len(beyond):
        off = [
            f"{line.method} {line.target_name} {cell('perplexity', line.perplexity).text}"
            for line in beyond.sort_values("perplexity", ascending=False).itertuples()
        ]
        more = f" and {len(off) - 6} more" if len(off) > 6 else ""
        notes.append(f"at the upper edge, beyond the axis: {', '.join(off[:6])}{more}")
    figure.legend(
        handles=handles, loc="outside lower center", ncols=3, fontsize="small", frameon=False, handlelength=2.6,
        title=safe("; ".join(notes), 130) if notes else None, title_fontsize="small",
    )  # fmt: skip
