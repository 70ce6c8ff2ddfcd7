"""A search: its front pair by pair, what it covers as trials go on, which parameters matter."""

import altair as alt
import pandas as pd

from reports.charts import house
from reports.tables.search import pair_front
from reports.words.headings import heading
from reports.words.naming import run_text
from reports.words.settings import shortened
from reports.words.units import in_units
from workloads.searched import Searched

HEIGHT = 360
MOST_MARKS = 3000  # of designs that are not on the front
_BAR = 15


def chart_pair(found: Searched, x: str, y: str) -> pd.DataFrame:
    """Every design that runs, those that meet the constraints first, with the texts that the chart shows."""
    trials = found.trials
    used = trials[trials["feasible"] & trials["repeats"].isna() & trials[x].notna() & trials[y].notna()]
    used = used.sort_values(["front", "meets", "trial"], ascending=[False, False, True], kind="stable")
    used = used.head(int(used["front"].sum()) + MOST_MARKS)
    line = pair_front(used[used["meets"]], x, y).reindex(used.index, fill_value=False)
    shown, names = in_units(used[[x, y]])
    own = shortened(list(dict.fromkeys(used["settings"])))
    status = ["on the front" if front else "dominated" if meets else "breaks a constraint"
              for front, meets in zip(used["front"], used["meets"], strict=True)]  # fmt: skip
    named = names.get(x, x), names.get(y, y)
    return used.assign(
        x=shown[named[0]], y=shown[named[1]], x_said=house.said(named[0], shown[named[0]]),
        y_said=house.said(named[1], shown[named[1]]), run=[run_text(each) for each in used.to_dict("records")],
        design_said=["" if pd.isna(n) else f"{n}" for n in used["design"]], stairs=line, status=status,
        settings_said=used["settings"].map(own),
    )  # fmt: skip


def spoken_pair(table: pd.DataFrame, x: str, y: str) -> str:
    """Of `chart_pair`."""
    parts = [f"design {line.design} ({line.settings_said}; {line.run}): {line.x_said}, {line.y_said}"
             for line in table[table["front"]].sort_values("design").itertuples()]  # fmt: skip
    return house.spoken(f"{title_of(table, x)} against {title_of(table, y)}; on the Pareto front", parts)


def title_of(table: pd.DataFrame, column: str) -> str:
    """With the unit that the numbers are in."""
    _, names = in_units(table[[column]])
    return heading(names.get(column, column)).text


def pair_chart(table: pd.DataFrame, x: str, y: str) -> dict:
    """Of `chart_pair`. A full mark is on the front of all objectives, the line is the front of these two."""
    methods = list(dict.fromkeys(table["method"]))
    _, names = in_units(table[[x, y]])
    across = alt.X("x:Q", title=heading(names.get(x, x)).text.lower(), scale=house.scale(table["x"]))
    up = alt.Y("y:Q", title=heading(names.get(y, y)).text, scale=house.scale(table["y"]))
    colour = alt.Color("method:N", scale=house.colours(methods), title="pruned by")
    kinds = ["on the front", "dominated", "breaks a constraint"]
    shape = alt.Shape("status:N", title="design", scale=alt.Scale(domain=kinds, range=["circle", "circle", "cross"]),
                      legend=alt.Legend(symbolFillColor="transparent"))  # fmt: skip
    stairs = house.rows().mark_line(interpolate="step-after", strokeWidth=1, color=house.QUIET)
    stairs = stairs.transform_filter("datum.stairs").encode(x=across, y=up, order=alt.Order("x:Q"))
    marks = house.rows().mark_point(size=55, strokeWidth=1.4, filled=False).encode(
        x=across, y=up, color=colour, shape=shape,
        fill=alt.condition("datum.front", colour, alt.value("transparent")),
        opacity=alt.condition("datum.front", alt.value(1), alt.value(0.45)),
        tooltip=house.told(("design_said", "design"), ("settings_said", "settings"), ("run", "pruned by"),
                           ("x_said", heading(x).text), ("y_said", heading(y).text), ("status", "is")),
    )  # fmt: skip
    return house.finished(alt.layer(stairs, marks), HEIGHT)


def chart_progress(progress: pd.DataFrame) -> pd.DataFrame:
    """The lines of `progress_table` with the texts that the chart shows."""
    return progress.assign(percent=100 * progress["covered"], covered_said=house.said("covered", progress["covered"]))


def spoken_progress(lines: pd.DataFrame) -> str:
    parts = [f"{line.covered_said} % after {line.trials:,} trials" for line in lines.itertuples()]
    return house.spoken("What the front covers", parts)


def progress_chart(lines: pd.DataFrame) -> dict:
    """Of `chart_progress`."""
    x = alt.X("trials:Q", title="trials", scale=alt.Scale(zero=True))
    y = alt.Y("percent:Q", title="covered by the front (%)", scale=alt.Scale(zero=True))
    line = house.rows().mark_line(interpolate="step-after", strokeWidth=2, color=house.COLOURS[0]).encode(x=x, y=y)
    marks = house.rows().mark_point(size=35, filled=True, color=house.COLOURS[0]).encode(
        x=x, y=y, tooltip=house.told(("trials", "trials"), ("covered_said", "covered (%)")))  # fmt: skip
    return house.finished(alt.layer(line, marks), 260)


def chart_importance(importance: pd.DataFrame) -> pd.DataFrame:
    """The lines of `Searched.importance` with the texts that the chart shows."""
    return importance.assign(
        objective_said=[heading(name).text for name in importance["objective"]],
        percent=100 * importance["importance"],
        importance_said=house.said("importance", importance["importance"]),
    )


def spoken_importance(lines: pd.DataFrame) -> str:
    parts = []
    for objective, each in lines.groupby("objective_said", sort=False):
        top = each.sort_values("importance", ascending=False).head(3)
        parts.append(f"{objective}: {', '.join(f'{p.parameter} {p.importance_said} %' for p in top.itertuples())}")
    return house.spoken("Which parameters matter", parts)


def importance_chart(lines: pd.DataFrame) -> dict:
    """Of `chart_importance`: bars of a parameter together, one for each objective."""
    objectives = list(dict.fromkeys(lines["objective_said"]))
    parameters = list(dict.fromkeys(lines["parameter"]))
    bars = house.rows().mark_bar(height=_BAR - 3).encode(
        x=alt.X("percent:Q", title="share (%)", scale=alt.Scale(domainMin=0)),
        y=alt.Y("parameter:N", title=None, sort=parameters, axis=alt.Axis(ticks=False, labelLimit=260)),
        yOffset=alt.YOffset("objective_said:N", sort=objectives),
        color=alt.Color("objective_said:N", scale=house.colours(objectives), title="objective"),
        tooltip=house.told(("parameter", "parameter"), ("objective_said", "objective"),
                           ("importance_said", "share (%)")),
    )  # fmt: skip
    return house.finished(alt.layer(bars), _BAR * len(objectives) * len(parameters) + 8 * len(parameters))
