"""The designs of a sweep: latency against energy or area, fronts marked."""

import altair as alt
import pandas as pd

from reports.charts import house
from reports.tables.designs import COSTS
from reports.words.headings import heading
from reports.words.naming import run_text
from reports.words.units import in_units

HEIGHT = 360


def chart_designs(table: pd.DataFrame, cost: str) -> pd.DataFrame:
    """The lines of a table of `design_tables` that have both, with the texts that the chart shows."""
    used = table[(table["infeasible_layers"] == 0) & table["latency_us"].notna() & table[cost].notna()]
    shown, names = in_units(used)
    latency, cost_column = names["latency_us"], names.get(cost, cost)
    return used.assign(
        x=shown[latency],
        y=shown[cost_column],
        run=[run_text(line) for line in used.to_dict("records")],  # type: ignore[arg-type]
        on_front=used["front"].str.contains(COSTS[cost]),
        latency_said=house.said(latency, shown[latency]),
        cost_said=house.said(cost_column, shown[cost_column]),
        speedup_said=house.said("speedup", used["speedup"]),
    )


def spoken_designs(table: pd.DataFrame, cost: str) -> str:
    """Of `chart_designs`."""
    fronts = table[table["on_front"]]
    parts = [f"design {line.design} ({line.design_settings}), {line.run}: {line.latency_said}, {line.cost_said}"
             for line in fronts.itertuples()]  # fmt: skip
    return house.spoken(f"Latency against {COSTS[cost]}; on the Pareto front", parts)


def designs_chart(table: pd.DataFrame, cost: str) -> dict:
    """Of `chart_designs`; `cost`: one of COSTS."""
    _, names = in_units(table)
    latency, cost_column = names["latency_us"], names.get(cost, cost)
    runs = list(dict.fromkeys(table["run"]))
    x = alt.X("x:Q", title=heading(latency).text.lower(), scale=house.scale(table["x"]))
    y = alt.Y("y:Q", title=heading(cost_column).text, scale=house.scale(table["y"]))
    colour = alt.Color("run:N", scale=house.colours(runs), title="run")
    front = house.rows().mark_line(interpolate="step-after", strokeWidth=1.2).transform_filter("datum.on_front")
    front = front.encode(x=x, y=y, color=colour, order=alt.Order("x:Q"))
    marks = house.rows().mark_point(size=60, strokeWidth=1.5, filled=False).encode(
        x=x, y=y, color=colour, shape=alt.Shape("run:N", scale=house.shapes(runs), title="run"),
        fill=alt.condition("datum.on_front", colour, alt.value("var(--page)")),
        tooltip=house.told(("design", "design"), ("design_settings", "settings"), ("run", "run"),
                           ("latency_said", "latency"), ("cost_said", COSTS[cost]), ("speedup_said", "speedup")),
    )  # fmt: skip
    return house.finished(alt.layer(front, marks), HEIGHT)
