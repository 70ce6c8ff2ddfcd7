"""Lines over a number: speedup against tokens, perplexity and speedup against sparsity."""

import altair as alt
import numpy as np
import pandas as pd

from reports.charts import house
from reports.tables.quality import DENSE
from reports.tables.sums import KEYS, groups
from reports.words.naming import place_text, run_text, tokens_text
from reports.words.present import cell
from reports.words.settings import settings_text

HEIGHT = 340


def chart_curves(lines: pd.DataFrame) -> pd.DataFrame:
    """The lines of `curves` with the texts that the chart shows."""
    error = lines["error_p90"]
    return lines.assign(
        place=[_place(line) for line in lines.to_dict("records")],  # type: ignore[arg-type]
        said=house.said("speedup", lines["speedup"]),
        speedup_low=lines["speedup"] / (1 + error),
        speedup_high=lines["speedup"] / (1 - error.where(error < 1)),
    )


def _place(line: dict) -> str:
    settings = f" {settings_text(line['settings'], 30)}" if line["settings"] else ""
    return f"{line['target']}{settings}, {line['source']}"


def spoken_curves(lines: pd.DataFrame) -> str:
    """Of `chart_curves`."""
    parts = []
    for key, part in groups(lines, ["place", "shapes"]):
        part = part.sort_values("tokens")
        first, last = part.iloc[0], part.iloc[-1]
        parts.append(f"{key['shapes']} on {key['place']}: {first['said']} at {tokens_text(first['tokens'])} to "
                     f"{last['said']} at {tokens_text(last['tokens'])}")  # fmt: skip
    return house.spoken("Speedup against tokens", parts)


def chart_sparsities(headline: pd.DataFrame) -> pd.DataFrame:
    """The lines of `headline_table` with a speedup and the texts that the chart shows; `ideal`: 1 / (1 - sparsity)."""
    known = headline[np.isfinite(headline["speedup"]) & (headline["speedup"] > 0) & (headline["sparsity"] < 1)]
    records = known.to_dict("records")
    return known[[*KEYS, "speedup", "sparsity"]].assign(
        sparsity_percent=100 * known["sparsity"],
        ideal=1 / (1 - known["sparsity"]),
        place=[place_text(line) for line in records],  # type: ignore[arg-type]
        run=[run_text(line) for line in records],  # type: ignore[arg-type]
        kind=["N:M" if ":" in pattern else pattern for pattern in known["pattern"]],
        said=house.said("speedup", known["speedup"]),
        sparsity_said=house.said("sparsity", known["sparsity"]),
    )


def spoken_sparsities(lines: pd.DataFrame) -> str:
    """Of `chart_sparsities`."""
    parts = [f"{p.run} on {p.place}: {p.said} at {p.sparsity_said} %" for p in lines.itertuples()]
    return house.spoken("Speedup against sparsity", parts)


def chart_qualities(lines: pd.DataFrame) -> pd.DataFrame:
    """The pruned lines of `perplexity_table` with the texts that the chart shows."""
    pruned = lines[(lines["method"] != DENSE) & np.isfinite(lines["perplexity"])]
    spreads = zip(pruned["perplexity"], pruned["perplexity_spread"], strict=True)
    return pruned.assign(said=[cell("perplexity", value, spread).text for value, spread in spreads])


def spoken_qualities(lines: pd.DataFrame) -> str:
    """Of `chart_qualities`."""
    parts = [f"{line.method} {line.target_name} {line.said}" for line in lines.itertuples()]
    return house.spoken("Perplexity after pruning", parts)


def tokens_chart(lines: pd.DataFrame) -> dict:
    """Of what `curves` gives for one model and its masks. Shaded: the stated error of a prediction."""
    shapes, places = list(dict.fromkeys(lines["shapes"])), list(dict.fromkeys(lines["place"]))
    x = alt.X("tokens:Q", title="tokens (log scale)", scale=alt.Scale(type="log", base=2), axis=alt.Axis(format="~s"))
    y = alt.Y("speedup:Q", title="speedup over dense", scale=alt.Scale(zero=False))
    colour = alt.Color("shapes:N", scale=house.colours(shapes), title="out x in")
    layers = [house.line_at(1.0, "y")]
    if lines["speedup_low"].notna().any():
        band = house.rows().mark_area(opacity=0.08, line=False).transform_filter("isValid(datum.speedup_low)")
        layers.append(band.encode(x=x, y=alt.Y("speedup_low:Q"), y2="speedup_high:Q", color=colour, detail="place:N"))
    shown = house.told(("shapes", "out x in"), ("place", "on"), ("tokens", "tokens"), ("said", "speedup"))
    drawn = house.rows().mark_line(strokeWidth=1.6).encode(
        x=x, y=y, color=colour, strokeDash=alt.StrokeDash("place:N", sort=places, legend=alt.Legend(title="machine")
                                                          if len(places) > 1 else None))  # fmt: skip
    marks = house.rows().mark_point(filled=True, size=45, opacity=1)
    shape = alt.Shape("shapes:N", scale=house.shapes(shapes), title="out x in")
    marks = marks.encode(x=x, y=y, color=colour, shape=shape, tooltip=shown)
    return house.finished(alt.layer(*layers, drawn, marks), HEIGHT)


def sparsity_chart(lines: pd.DataFrame) -> dict:
    """Speedup of whole models against their sparsity, with the ideal line."""
    methods = list(dict.fromkeys(lines["method"]))
    places = list(dict.fromkeys(lines["place"]))
    x = alt.X("sparsity_percent:Q", title="sparsity (%)", scale=alt.Scale(zero=False, padding=12))
    y = alt.Y("speedup:Q", title="speedup over dense", scale=house.scale([*lines["speedup"], *lines["ideal"]]))
    colour = alt.Color("method:N", scale=house.colours(methods), legend=alt.Legend(title="method"))
    ideal = house.rows().mark_line(color=house.QUIET, strokeDash=[5, 3]).encode(x=x, y="ideal:Q")
    drawn = house.rows().mark_line(strokeWidth=1).encode(x=x, y=y, color=colour, detail=["place:N", "kind:N"])
    marks = house.rows().mark_point(filled=True, size=70, opacity=1).encode(
        x=x, y=y, color=colour, shape=alt.Shape("place:N", scale=house.shapes(places),
                                                legend=alt.Legend(title="machine", symbolFillColor=house.INK)
                                                if len(places) > 1 else None),
        tooltip=house.told(("run", "run"), ("place", "on"), ("said", "speedup"), ("sparsity_said", "sparsity (%)")),
    )  # fmt: skip
    return house.finished(alt.layer(house.line_at(1.0, "y"), ideal, drawn, marks), HEIGHT)


def quality_chart(lines: pd.DataFrame) -> dict:
    """Perplexity by target, a line a method, of what `perplexity_table` gives for one evaluation; bars over the
    seeds."""
    methods, targets = list(dict.fromkeys(lines["method"])), list(dict.fromkeys(lines["target_name"]))
    x = alt.X("target_name:N", sort=targets, title="asked for", axis=alt.Axis(labelAngle=0))
    y = alt.Y("perplexity:Q", title="perplexity (lower is better)",
              scale=house.scale([*lines["perplexity"], *lines["dense_perplexity"]]))  # fmt: skip
    at = alt.XOffset("method:N", sort=methods)
    colour = alt.Color("method:N", scale=house.colours(methods), title="method")
    bars = house.rows().mark_rule(strokeWidth=1.4)
    bars = bars.encode(x=x, xOffset=at, y=alt.Y("perplexity_low:Q"), y2="perplexity_high:Q", color=colour)
    marks = house.rows().mark_point(filled=True, size=70, opacity=1).encode(
        x=x, xOffset=at, y=y, color=colour, shape=alt.Shape("method:N", scale=house.shapes(methods), title="method"),
        tooltip=house.told(("method", "method"), ("target_name", "asked for"), ("said", "perplexity")),
    )  # fmt: skip
    dense = house.rows().mark_rule(color=house.INK, strokeDash=[2, 3]).encode(y="mean(dense_perplexity):Q")
    spread = [bars] if (lines["seeds"] > 1).any() else []
    return house.finished(alt.layer(dense, *spread, marks), HEIGHT)
