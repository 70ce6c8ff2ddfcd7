"""Tokens a second of whole models over the sequences that run together, or over the context: a line a method."""

import altair as alt
import pandas as pd

from reports.charts import house
from reports.words.present import quantity_text

HEIGHT = 340
AXIS = {"batch": "sequences (log scale)", "context": "context, tokens (log scale)"}
UNIT = {"batch": "sequences", "context": "tokens of context"}


def chart_batches(lines: pd.DataFrame, along: str = "batch") -> pd.DataFrame:
    """The lines of one place with the texts that the chart shows."""
    kept = lines[["model", "target", "method", *dict.fromkeys(("batch", along)), "tokens_per_s", "usable"]]
    return kept.assign(
        rate_said=[quantity_text(value) for value in kept["tokens_per_s"]],
        speedup_said=house.said("speedup", lines["speedup"]),
        fits_said=["yes" if fits else "no" for fits in kept["usable"]],
    )


def spoken_batches(lines: pd.DataFrame, along: str = "batch") -> str:
    """Of `chart_batches`."""
    ends = lines[lines[along].isin([lines[along].min(), lines[along].max()])]
    each = zip(ends["method"], ends["rate_said"], ends[along], strict=True)
    return house.spoken(
        "Tokens a second", [f"{method} {rate} at {size:,} {UNIT[along]}" for method, rate, size in each]
    )


def batches_chart(lines: pd.DataFrame, along: str = "batch") -> dict:
    """Of what `chart_batches` gives. A hollow mark does not fit into the memory."""
    methods = list(dict.fromkeys(lines["method"]))
    axis = alt.Axis(values=sorted(int(n) for n in lines[along].unique()), format="d" if along == "batch" else ",d",
                    labelOverlap=True)  # fmt: skip
    x = alt.X(f"{along}:Q", title=AXIS[along], scale=alt.Scale(type="log", base=2), axis=axis)
    y = alt.Y("tokens_per_s:Q", title="tokens/s (log scale)", scale=alt.Scale(type="log", nice=False, padding=14),
              axis=alt.Axis(format="~s"))  # fmt: skip
    colour = alt.Color("method:N", scale=house.colours(methods), legend=alt.Legend(title="method"))
    drawn = house.rows().mark_line(strokeWidth=1.4).encode(x=x, y=y, color=colour)
    marks = house.rows().mark_point(size=60, strokeWidth=1.6, filled=False).encode(
        x=x, y=y, color=colour, shape=alt.Shape("method:N", scale=house.shapes(methods), title="method"),
        fill=alt.condition("datum.usable", colour, alt.value("var(--page)")),
        tooltip=house.told(("method", "method"), (along, UNIT[along]), ("rate_said", "tokens/s"),
                           ("speedup_said", "speedup"), ("fits_said", "fits")),
    )  # fmt: skip
    return house.finished(alt.layer(drawn, marks), HEIGHT)
