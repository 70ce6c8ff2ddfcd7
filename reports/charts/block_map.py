"""Speedup by block and role, a panel a run; colours diverge from 1x in steps."""

import altair as alt
import numpy as np
import pandas as pd

from reports.charts import house
from reports.tables.sums import groups

_STEPS = (1.02, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2, 2.5, 3, 4, 6, 8, 12, 16, 32, 64)
_SHADES = 4  # of each side
_CELL = 16
_NUMBERED = 24  # blocks up to which a cell has its number


def chart_blocks(table: pd.DataFrame) -> pd.DataFrame:
    """The lines of `block_table` with the texts that the chart shows."""
    said = house.said("speedup", table["speedup"])
    return table.assign(
        said=said,
        short=[text.split("x")[0] for text in said],
        sparsity_said=house.said("sparsity", table["sparsity"]),
    )


def spoken_blocks(table: pd.DataFrame) -> str:
    """Of `chart_blocks`."""
    parts = []
    for key, part in groups(table, ["run"]):
        low, high = part.loc[part["speedup"].idxmin()], part.loc[part["speedup"].idxmax()]
        parts.append(f"{key['run']}: {low['said']} ({low['role']} of block {low['block']}) to {high['said']} "
                     f"({high['role']} of block {high['block']})")  # fmt: skip
    return house.spoken("Speedup by block and role", parts)


def map_chart(table: pd.DataFrame) -> dict:
    """Of what `block_table` gives for one configuration."""
    roles, runs = list(dict.fromkeys(table["role"])), list(dict.fromkeys(table["run"]))
    blocks = table["block"].nunique()
    numbered = blocks <= _NUMBERED
    scale = steps_of(table["speedup"])
    cell = max(30, 4 + 7 * max(map(len, roles))) if numbered else _CELL
    size = {"width": {"step": cell}, "height": {"step": 20 if numbered else _CELL if blocks < 40 else 9}}
    x = alt.X("role:N", sort=roles, title=None, axis=alt.Axis(labelAngle=0 if numbered else -90, ticks=False))
    y = alt.Y("block:O", title="block", axis=alt.Axis(ticks=False, labelOverlap=True))
    cells = house.rows().mark_rect(stroke="var(--page)", strokeWidth=1).encode(
        x=x, y=y, color=alt.Color("speedup:Q", scale=scale, legend=alt.Legend(title="speedup", type="symbol",
                                                                              format=".3~g", symbolType="square")),
        tooltip=house.told(("role", "role"), ("block", "block"), ("run", "run"), ("said", "speedup"),
                           ("sparsity_said", "sparsity (%)")),
    )  # fmt: skip
    layers = [cells]
    if numbered:
        text = house.rows().mark_text(fontSize=10, color=house.INK)
        layers.append(text.encode(x=x, y=y, text="short:N"))  # type: ignore[arg-type]
    panel = alt.layer(*layers).properties(**size)
    facet = alt.Facet("run:N", sort=runs, title=None, header=alt.Header(labelFontWeight="bold"))
    chart = panel.facet(facet=facet, columns=len(runs), data=alt.NamedData(name="rows"))
    made = chart.resolve_axis(x="independent").to_dict(validate=False)
    for layer in made["spec"]["layer"]:
        layer.pop("data", None)  # of its panel alone
    made.pop("$schema", None)
    made.pop("config", None)
    return made


def steps_of(speedups: pd.Series) -> alt.Scale:
    """Thresholds at round speedups within the data, blue above 1 and red below."""
    known = speedups[np.isfinite(speedups)]
    low, high = float(known.min()), float(known.max())
    above = _thin([step for step in _STEPS if max(low, 1.0) < step < high])
    below = _thin([1 / step for step in _STEPS if low < 1 / step < min(high, 1.0)])
    inside = [1.0] if low < 1 < high else []
    blues = len(above) + (1 if high >= 1 else 0)
    reds = len(below) + (1 if low < 1 else 0)
    shades = [f"var(--slow{n})" for n in range(reds, 0, -1)] + [f"var(--fast{n})" for n in range(1, blues + 1)]
    return alt.Scale(type="threshold", domain=sorted([*below, *inside, *above]), range=shades)


def _thin(steps: list[float]) -> list[float]:
    most = _SHADES - 1
    if len(steps) <= most:
        return steps
    return [steps[round(place)] for place in np.linspace(0, len(steps) - 1, most)]
