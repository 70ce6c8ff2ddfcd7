"""How busy the array and the DRAM port are while one layer runs: shares of each span of time."""

import altair as alt
import numpy as np
import pandas as pd

from reports.charts import house

HEIGHT = 220
MOST = 400  # spans in a chart; of more, neighbours are taken together
LOOKS = {"array computes or waits for its buffers": "var(--c5)", "DRAM loads or stores": "var(--c1)"}


def chart_trace(trace: pd.DataFrame) -> pd.DataFrame:
    """A line per span and part of one trace (reports/figures/timeline.py): `begin` and `end` in us, `share` 0..1."""
    begin = trace["begin_us"].to_numpy(np.float64)
    step = float(begin[1] - begin[0]) if len(begin) > 1 else 1.0
    dram = np.minimum(trace["loads"].to_numpy() + trace["stores"].to_numpy(), 1.0)
    first = np.arange(0, len(begin), -(-len(begin) // MOST))
    counts = np.diff([*first, len(begin)])
    named = {name: trace[name].iloc[0] for name in ("model", "target", "method", "tokens") if name in trace}
    parts = []
    for part, busy in zip(LOOKS, (trace["array"].to_numpy(np.float64), dram), strict=True):
        shares = np.add.reduceat(busy, first) / counts
        ends = begin[first] + counts * step
        parts.append(pd.DataFrame({"part": part, "begin": begin[first], "end": ends, "share": shares}).assign(**named))
    lines = pd.concat(parts, ignore_index=True)
    spans = zip(lines["begin"], lines["end"], strict=True)
    return lines.assign(
        share_said=[f"{text} %" for text in house.said("time_share", lines["share"])],
        span_said=[f"{low:,.3g} to {high:,.3g} µs" for low, high in spans],
    )


def spoken_trace(lines: pd.DataFrame) -> str:
    """Of `chart_trace`."""
    means = [(part, float(same["share"].mean())) for part, same in lines.groupby("part", sort=False)]
    return house.spoken("Mean share of the time", [f"{part} {100 * mean:.0f} %" for part, mean in means])


def trace_chart(lines: pd.DataFrame) -> dict:
    """Of what `chart_trace` gives."""
    looks = alt.Scale(domain=list(LOOKS), range=list(LOOKS.values()))
    x = alt.X("begin:Q", title="time (µs)", scale=alt.Scale(nice=False))
    y = alt.Y("share:Q", title="busy", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=3))
    bars = house.rows().mark_rect(strokeWidth=0).encode(
        x=x, x2="end:Q", y=y, y2=alt.datum(0), color=alt.Color("part:N", scale=looks, legend=alt.Legend(title=None)),
        opacity=alt.condition(f"datum.part == '{next(iter(LOOKS))}'", alt.value(0.8), alt.value(0.0)),
        tooltip=house.told(("span_said", "time"), ("part", "part"), ("share_said", "busy")),
    )  # fmt: skip
    line = house.rows().mark_line(interpolate="step-after", strokeWidth=1.4, color=list(LOOKS.values())[1])
    line = line.transform_filter(f"datum.part != '{next(iter(LOOKS))}'").encode(x=x, y=y)
    return house.finished(alt.layer(bars, line), HEIGHT)
