"""How busy the array and the DRAM port are while one layer runs: a panel per mask, all on one axis of time."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from reports.figures import drawing
from reports.figures.drawing import safe
from reports.tables.sums import groups
from reports.words.settings import settings_text

PLACE = ["model", "target", "settings", "tokens"]  # what the panels of one figure share
_NAMES = ["method", "pattern", "target_sparsity", "seed"]  # of a panel, as far as the frame has them
_COLUMNS = 2


def timelines_of(timelines: pd.DataFrame) -> Iterator[tuple[dict, pd.DataFrame]]:
    """(PLACE and the layer's name, its traces) for each model, target, settings and tokens in `timelines`.

    `timelines`: one or more traces below one another, each with begin_us from 0 in equal steps, the shares of a step
    (0..1) in which the array, loads and stores are busy, and in every line the layer, PLACE and the method."""
    timelines = timelines.assign(settings=timelines["settings"].fillna(""))
    # Masks of one method have one name, but each trace begins at 0.
    timelines = timelines.assign(_trace=(timelines["begin_us"].diff().fillna(0) <= 0).cumsum())
    yield from groups(timelines, [*PLACE, "layer"])


def where_text(key: dict) -> str:
    settings = f" with {settings_text(key['settings'])}" if key["settings"] else ""
    return f"{key['model']}, {key['layer']} on {key['target']}{settings}, {key['tokens']:,} tokens".replace(
        " 1 tokens", " 1 token"
    )


def panels_of(same: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(name, trace) of what `timelines_of` gives for one layer."""
    known = [name for name in _NAMES if name in same and same.groupby("_trace")[name].first().nunique(dropna=False) > 1]
    known = list(dict.fromkeys(["method", *known]))
    seen: dict[str, int] = {}
    for _, trace in groups(same, ["_trace"]):
        first = trace.iloc[0]
        name = " ".join(_named(column, first[column]) for column in known if not pd.isna(first[column]))
        seen[name] = seen.get(name, 0) + 1
        yield name + (f", mask {seen[name]}" if seen[name] > 1 else ""), trace


def _named(column: str, value: object) -> str:
    if column == "seed":
        return f"seed {value}"
    return f"{100 * float(str(value)):g} %" if column == "target_sparsity" else str(value)


def timeline_figure(key: dict, traces: pd.DataFrame) -> Figure:
    """Of what `timelines_of` gives for one layer."""
    panels = list(panels_of(traces))
    columns = min(_COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    figure = drawing.new_figure(7.2, 1.0 + 1.6 * lines, "Utilisation over time", where_text(key))
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    ends: list[float] = []
    for number, place in enumerate(axes.flat):
        if number >= len(panels):
            place.set_visible(False)
            continue
        ends.append(_panel(place, *panels[number]))
        if number + columns >= len(panels):
            place.set_xlabel("time (µs)")
            place.tick_params(labelbottom=True)
    axes.flat[0].set_xlim(0, max(ends))
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize="small", frameon=False)
    return figure


def _panel(axes: Axes, name: str, trace: pd.DataFrame) -> float:
    """Draws one trace; returns when it ends, us."""
    begin, array = trace["begin_us"].to_numpy(), trace["array"].to_numpy()
    dram = np.minimum(trace["loads"].to_numpy() + trace["stores"].to_numpy(), 1.0)  # one port; beyond 1 is rounding
    step = begin[1] - begin[0] if len(begin) > 1 else 1.0
    edges = np.append(begin, begin[-1] + step)
    drawing.style(axes, grid="y")
    axes.stairs(array, edges, fill=True, color=drawing.SKY, alpha=0.75, label="array computes or waits for its buffers")
    axes.stairs(dram, edges, baseline=None, color=drawing.VERMILLION, linewidth=1.1, label="DRAM loads or stores")
    busy = f"array {100 * array.mean():.0f} %, DRAM {100 * dram.mean():.0f} % of the time"
    axes.set_title(f"{safe(name, 44, lines=1)}\n{busy}", fontsize="small", color=drawing.INK)
    axes.set_ylim(0, 1.05)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    return float(edges[-1])
