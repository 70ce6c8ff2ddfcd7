"""Operations under the roofs of one target: FLOP a byte against FLOP/s."""

import altair as alt
import pandas as pd

from reports.charts import house
from reports.charts.shares import LOOKS
from reports.tables.serving import GROUPS
from reports.words.present import quantity_text
from reports.words.serving import percent

HEIGHT = 360
SHAPES = {"prefill": "circle", "decode": "triangle-up"}
MOST = 1000  # operations in a chart, those of most time


def chart_roofline(points: pd.DataFrame) -> pd.DataFrame:
    """`points` (intensity in FLOP a byte, tflops, share of the time, role, group, phase) with the texts that the chart
    shows."""
    kept = points.sort_values("share", ascending=False, kind="stable").head(MOST)
    known = [name for name in ("model", "target", "method", "pattern", "target_sparsity", "tokens") if name in kept]
    return kept[[*known, "role", "phase", "intensity", "tflops", "share"]].assign(
        part=[GROUPS[group] for group in kept["group"]],
        intensity_said=[quantity_text(value) for value in kept["intensity"]],
        tflops_said=[quantity_text(value) for value in kept["tflops"]],
        share_said=[percent(value) for value in kept["share"]],
    )


def spoken_roofline(lines: pd.DataFrame, peak_tflops: float, bandwidth_gbps: float) -> str:
    """Of `chart_roofline`."""
    what = f"Roofs {peak_tflops:,.4g} TFLOP/s and {bandwidth_gbps:,.4g} GB/s"
    parts = [f"{p.role} in {p.phase} {p.tflops_said} TFLOP/s at {p.intensity_said} FLOP a byte, {p.share_said} of the "
             f"time" for p in lines.itertuples()]  # fmt: skip
    return house.spoken(what, parts)


def roofline_chart(lines: pd.DataFrame, peak_tflops: float, bandwidth_gbps: float) -> dict:
    """Of what `chart_roofline` gives."""
    ridge = 1e3 * peak_tflops / bandwidth_gbps
    low = min(ridge, float(lines["intensity"].min())) / 2
    high = 2 * max(ridge, float(lines["intensity"].max()))
    corners = [(low, low * bandwidth_gbps / 1e3), (ridge, peak_tflops), (high, peak_tflops)]
    looks = {name: LOOKS[group] for group, name in GROUPS.items() if (lines["part"] == name).any()}
    phases = [name for name in SHAPES if (lines["phase"] == name).any()]
    x = alt.X("intensity:Q", title="FLOP a byte (log scale)", scale=alt.Scale(type="log", nice=False),
              axis=alt.Axis(format="~s", labelOverlap=True))  # fmt: skip
    y = alt.Y("tflops:Q", title="TFLOP/s (log scale)", scale=alt.Scale(type="log", nice=False, padding=12),
              axis=alt.Axis(format="~g", labelOverlap=True))  # fmt: skip
    roof = alt.Chart(alt.InlineData(values=[{"intensity": a, "tflops": b} for a, b in corners]))
    roof = roof.mark_line(color=house.INK, strokeWidth=1.4).encode(x=x, y=y)
    size = alt.Size("share:Q", scale=alt.Scale(range=[25, 500], domain=[0, 1]), legend=None)
    marks = house.rows().mark_point(filled=True, opacity=0.85, stroke=house.INK, strokeWidth=0.5).encode(
        x=x, y=y, size=size,
        color=alt.Color("part:N", scale=alt.Scale(domain=list(looks), range=list(looks.values())),
                        legend=alt.Legend(title=None) if len(looks) > 1 else None),
        shape=alt.Shape("phase:N", scale=alt.Scale(domain=phases, range=[SHAPES[name] for name in phases]),
                        legend=alt.Legend(title="phase", symbolFillColor=house.INK) if len(phases) > 1 else None),
        tooltip=house.told(("role", "operation"), ("phase", "phase"), ("intensity_said", "FLOP a byte"),
                           ("tflops_said", "TFLOP/s"), ("share_said", "share of the time")),
    )  # fmt: skip
    return house.finished(alt.layer(house.line_at(ridge), roof, marks), HEIGHT)
