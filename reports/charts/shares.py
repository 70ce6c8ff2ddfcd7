"""Where the time of whole models goes: a bar a method, as long as its time over dense, in kinds of operations."""

import altair as alt
import pandas as pd

from reports.charts import house
from reports.tables.serving import GROUPS
from reports.words.present import times_text
from reports.words.serving import percent, sequences

LOOKS = {
    "linears": "var(--c0)", "experts": "var(--c3)", "attention": "var(--c4)", "elementwise": "var(--c2)",
    "head": "var(--c5)", "communication": "var(--c8)", "host": "var(--c7)",
}  # fmt: skip
_STEP = 17


def chart_shares(lines: pd.DataFrame) -> pd.DataFrame:
    """One line per line of one place and kind of operation: where its part of the bar begins and ends, in times of the
    dense model."""
    made: list[dict] = []
    for line in lines.to_dict("records"):
        length, begin = 1 / line["speedup"], 0.0
        said = f"{line['method']} {times_text(line['speedup'])}" + ("" if line["usable"] else ", does not fit")
        named = {name: line[name] for name in ("model", "target", "method")} | {"at": sequences(line["batch"])}
        for group, name in GROUPS.items():
            share = line[f"{group}_share"]
            if pd.isna(share) or share <= 0:
                continue
            end = begin + share * length
            made.append({**named, "part": name, "begin": begin, "end": end, "whole": max(length, 1.0), "said": said,
                         "share_said": percent(share), "last": False})  # fmt: skip
            begin = end
        if made:
            made[-1]["last"] = True
    return pd.DataFrame(made)


def shares_chart(lines: pd.DataFrame) -> dict:
    """Of what `chart_shares` gives."""
    ends = lines[lines["last"]]
    at, methods = list(dict.fromkeys(lines["at"])), list(dict.fromkeys(lines["method"]))
    looks = {name: LOOKS[group] for group, name in GROUPS.items() if (lines["part"] == name).any()}
    y = alt.Y("at:N", sort=at, title=None, axis=alt.Axis(ticks=False, labelFontWeight="bold", labelPadding=6))
    offset = alt.YOffset("method:N", sort=methods)
    x = alt.X("begin:Q", title="time / time of the dense model", scale=house.room(ends["whole"], ends["said"]))
    bars = house.rows().mark_bar().encode(
        x=x, x2="end:Q", y=y, yOffset=offset,
        color=alt.Color("part:N", scale=alt.Scale(domain=list(looks), range=list(looks.values())),
                        legend=alt.Legend(title=None)),
        tooltip=house.told(("at", "sequences"), ("method", "method"), ("part", "part"), ("share_said", "share"),
                           ("said", "speedup")),
    )  # fmt: skip
    texts = house.rows().mark_text(align="left", dx=4, fontSize=11, color=house.INK).transform_filter("datum.last")
    texts = texts.encode(x="whole:Q", y=y, yOffset=offset, text="said:N")
    return house.finished(alt.layer(house.line_at(1.0), bars, texts), _STEP * (len(methods) + 1) * len(at))
