"""From the ideal speedup, 1 / density, to the real one: what each loss takes."""

import altair as alt
import pandas as pd

from reports.charts import house
from reports.tables.sums import groups
from reports.tables.waterfall import IDEAL, LOSSES, REAL

LOOKS = {
    IDEAL: "var(--c7)",
    LOSSES["imbalance"]: "var(--c5)",
    LOSSES["metadata"]: "var(--c3)",
    LOSSES["buffers"]: "var(--c4)",
    LOSSES["dram"]: "var(--c1)",
    REAL: "var(--c0)",
}
_STEP = 13


def chart_steps(steps: pd.DataFrame) -> pd.DataFrame:
    """The lines of `waterfall_table` with the texts that the chart shows."""
    shares = zip(steps["lost_share"], house.said("time_share", steps["lost_share"].abs()), strict=True)
    lost = [f"{text} % {'lost' if share > 0 else 'gained'}" if share else "" for share, text in shares]
    said = house.said("speedup", steps["end"])
    return steps.assign(
        said=said,
        lost_said=lost,
        right=steps[["begin", "end"]].max(axis=1),
        short=[text if end else f"{name} {text}" for text, name, end in
               zip(said, steps["step"], steps["step"].isin([IDEAL, REAL]), strict=True)],
    )  # fmt: skip


def spoken_steps(steps: pd.DataFrame) -> str:
    """Of `chart_steps`."""
    parts = []
    for key, part in groups(steps, ["run"]):
        losses = [f"after {line.step} {line.said}" for line in part.itertuples() if line.lost_said]
        ends = f"ideal {part['said'].iloc[0]}", f"real {part['said'].iloc[-1]}"
        parts.append(f"{key['run']}: {', '.join([ends[0], *losses, ends[1]])}")
    return house.spoken("From the ideal speedup to the real one", parts)


def waterfall_chart(steps: pd.DataFrame) -> dict:
    """Of what `waterfall_table` gives for one configuration."""
    runs = list(dict.fromkeys(steps["run"]))
    known = [name for name in LOOKS if (steps["step"] == name).any()]
    y = alt.Y("run:N", sort=runs, title=None, axis=alt.Axis(ticks=False, labelLimit=150, labelFontWeight="bold"))
    at = alt.YOffset("step:N", sort=known)
    x = alt.X("begin:Q", title="speedup over dense", scale=house.room(steps["right"], steps["short"]))
    bars = house.rows().mark_bar().encode(
        x=x, x2="end:Q", y=y, yOffset=at,
        color=alt.Color("step:N", scale=alt.Scale(domain=known, range=[LOOKS[name] for name in known]),
                        legend=alt.Legend(title=None)),
        tooltip=house.told(("run", "run"), ("step", "step"), ("said", "speedup"), ("lost_said", "of the dense time")),
    )  # fmt: skip
    texts = house.rows().mark_text(align="left", dx=4, fontSize=11, color=house.INK)
    texts = texts.encode(x="right:Q", y=y, yOffset=at, text="short:N")
    return house.finished(alt.layer(house.line_at(1.0), bars, texts), _STEP * (len(known) + 1) * len(runs))
