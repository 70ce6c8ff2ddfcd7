"""What a method gains over sequences and context on one target; colours diverge from 1x in steps."""

import altair as alt
import pandas as pd

from reports.charts import house
from reports.charts.block_map import steps_of

_CELL = 26


def chart_gains(named: dict, grid: pd.DataFrame, fits: pd.DataFrame) -> pd.DataFrame:
    """(contexts, batches) speedups and whether they fit as lines, with `named` (model, target, method) in each."""
    cells = pd.DataFrame({"speedup": grid.stack(), "usable": fits.stack()}).dropna(subset="speedup").reset_index()
    said = house.said("speedup", cells["speedup"])
    short = [text.split("x")[0] for text in said]
    return cells.assign(
        **named,
        said=said,
        short=[text if fit else f"({text})" for text, fit in zip(short, cells["usable"], strict=True)],
        fits_said=["yes" if fit else "no" for fit in cells["usable"]],
    )


def spoken_gains(lines: pd.DataFrame) -> str:
    """Of `chart_gains`."""
    parts = [f"{p.said} at {p.batch:,} sequences of {p.context:,} tokens" for p in lines.itertuples()]
    return house.spoken("Speedup over dense", parts)


def gains_chart(lines: pd.DataFrame) -> dict:
    """Of what `chart_gains` gives for one target and method."""
    batches, contexts = sorted(lines["batch"].unique()), sorted(lines["context"].unique())
    brackets = "" if lines["usable"].all() else "; in brackets: does not fit"
    x = alt.X("batch:O", title="sequences", axis=alt.Axis(labelAngle=0, ticks=False))
    y = alt.Y("context:O", title="context (tokens)", axis=alt.Axis(ticks=False))
    legend = alt.Legend(title=f"speedup{brackets}", type="symbol", format=".3~g", symbolType="square")
    cells = house.rows().mark_rect(stroke="var(--page)", strokeWidth=1).encode(
        x=x, y=y, color=alt.Color("speedup:Q", scale=steps_of(lines["speedup"]), legend=legend),
        tooltip=house.told(("method", "method"), ("batch", "sequences"), ("context", "context"), ("said", "speedup"),
                           ("fits_said", "fits")),
    )  # fmt: skip
    text = house.rows().mark_text(fontSize=11, color=house.INK).encode(x=x, y=y, text="short:N")
    made = house.finished(alt.layer(cells, text), _CELL * len(contexts))
    made["width"] = 60 * len(batches)
    made["autosize"] = {"type": "pad"}
    return made
