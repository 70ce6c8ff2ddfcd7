"""Perplexity against speedup: every method, sparsity and machine, its Pareto fronts marked."""

import altair as alt
import pandas as pd

from reports.charts import house
from reports.tables.quality import DENSE
from reports.words.naming import place_text
from reports.words.present import cell

HEIGHT = 420


def chart_points(points: pd.DataFrame) -> pd.DataFrame:
    """The lines of `tradeoffs` with the texts that the chart shows."""
    records = points.to_dict("records")
    run = [f"{line['method']} {line['target_name']}".strip() for line in records]
    return points.assign(
        place=[place_text(line) for line in records],  # type: ignore[arg-type]
        run=run,
        speedup_said=[_banded("speedup", line) for line in records],  # type: ignore[arg-type]
        perplexity_said=[_banded("perplexity", line) for line in records],  # type: ignore[arg-type]
        front_said=["yes" if front else "no" for front in points["front"]],
    )


def _banded(column: str, line: dict) -> str:
    low, high = (cell(column, line[f"{column}_{end}"]).text for end in ("low", "high"))
    text = cell(column, line[column]).text
    return text if pd.isna(line[f"{column}_low"]) else f"{text} ({low} to {high})"


def spoken_points(points: pd.DataFrame) -> str:
    """Of `chart_points`."""
    fronts = points[points["front"] & (points["method"] != DENSE)]
    parts = [f"{p.run} on {p.place} {p.speedup_said} at {p.perplexity_said}" for p in fronts.itertuples()]
    return house.spoken("Perplexity against speedup; on the Pareto fronts", parts)


def tradeoff_chart(points: pd.DataFrame) -> dict:
    """Of what `chart_points` gives. A full mark is on the front of its machine and tokens, a hollow one is not."""
    methods, places = list(dict.fromkeys(points["method"])), list(dict.fromkeys(points["place"]))
    methods = [*(name for name in methods if name != DENSE), *([DENSE] if DENSE in methods else [])]
    drawn = house.colours(methods)
    drawn.range = [*drawn.range[:-1], house.INK] if methods[-1] == DENSE else drawn.range  # type: ignore[index]
    x = alt.X("speedup:Q", title="speedup over dense, same machine", scale=house.scale(points["speedup"]))
    y = alt.Y("perplexity:Q", title="perplexity (lower is better)", scale=house.scale(points["perplexity"]))
    colour = alt.Color("method:N", scale=drawn, legend=alt.Legend(title="method"))
    legend = alt.Legend(title="machine", symbolFillColor="transparent")
    shape = alt.Shape("place:N", scale=house.shapes(places), legend=legend if len(places) > 1 else None)
    lines = house.rows().mark_line(color=house.QUIET, interpolate="step-before", strokeWidth=1, opacity=0.7)
    lines = lines.transform_filter("datum.front").encode(x=x, y=y, detail=["place:N", "model:N"],
                                                         order=alt.Order("speedup:Q"))  # fmt: skip
    layers = [house.line_at(1.0), lines]
    bars = house.rows().mark_rule(strokeWidth=1)
    if points["speedup_low"].notna().any():
        known = bars.transform_filter("isValid(datum.speedup_low)")
        layers.append(known.encode(x=alt.X("speedup_low:Q"), x2="speedup_high:Q", y=y, color=colour))
    if points["perplexity_low"].notna().any():
        known = bars.transform_filter("isValid(datum.perplexity_low)")
        layers.append(known.encode(x=x, y=alt.Y("perplexity_low:Q"), y2="perplexity_high:Q", color=colour))
    marks = house.rows().mark_point(size=85, strokeWidth=1.8, filled=False).encode(
        x=x, y=y, color=colour, shape=shape, fill=alt.condition("datum.front", colour, alt.value("var(--page)")),
        tooltip=house.told(("model", "model"), ("run", "run"), ("place", "on"), ("speedup_said", "speedup"),
                           ("perplexity_said", "perplexity"), ("front_said", "Pareto front")),
    )  # fmt: skip
    return house.finished(alt.layer(*layers, marks), HEIGHT)
