"""Where the cycles, or the energy, go: stacked bars per role, the unpruned layer's first."""

from collections.abc import Callable

import altair as alt
import pandas as pd

from reports.charts import house
from reports.words.present import quantity_text
from reports.words.units import ENERGIES, fitting

# Work in blues, waiting in warm colours.
LOOKS = {
    "ideal compute": "var(--c0)",
    "imbalance": "var(--c5)",
    "DRAM stall": "var(--c1)",
    "buffer stall": "var(--c4)",
    "MACs": "var(--c0)",
    "idle MAC slots": "var(--c5)",
    "registers": "var(--c2)",
    "buffers": "var(--c4)",
    "DRAM": "var(--c1)",
    "dense, not split": "var(--c7)",
}
_STEP = 15


def chart_parts(table: pd.DataFrame) -> pd.DataFrame:
    """The lines of `part_table` with the texts that the chart shows."""
    return _dressed(table, 1.0, "cycles", lambda values: house.said("cycles", values))


def chart_energies(table: pd.DataFrame) -> pd.DataFrame:
    """The lines of `energy_table` with the texts that the chart shows, in the unit that suits them."""
    if table.empty:
        return table
    unit = fitting(ENERGIES, table["whole"].max())
    return _dressed(table, unit.size, unit.text, lambda values: [f"{quantity_text(v)} {unit.text}" for v in values])


def _dressed(table: pd.DataFrame, size: float, unit: str, said: Callable[[pd.Series], list[str]]) -> pd.DataFrame:
    if table.empty:
        return table
    last = ~table[::-1].duplicated(["role", "run"])[::-1]
    table = table.assign(**{name: table[name] / size for name in ("amount", "begin", "whole")})
    return table.assign(
        unit=unit,
        end=table["begin"] + table["amount"],
        last=last,
        amount_said=said(table["amount"]),
        whole_said=said(table["whole"]),
        share_said=[f"{text} %" for text in house.said("time_share", table["amount"] / table["whole"])],
    )


def spoken_parts(table: pd.DataFrame) -> str:
    """Of `chart_parts` and `chart_energies`."""
    ends = table[table["last"] & table["ratio"].notna()]
    parts = [f"{line.role}, {line.said}, {line.whole_said}" for line in ends.itertuples()]
    return house.spoken(f"Mean {table['unit'].iloc[0]} per layer of each role", parts)


def parts_chart(table: pd.DataFrame) -> dict:
    """Of what `chart_parts` or `chart_energies` gives for one configuration."""
    runs, roles = list(dict.fromkeys(table["run"])), list(dict.fromkeys(table["role"]))
    ends = table[table["last"]]
    known = [name for name in LOOKS if (table["part"] == name).any()]
    y = alt.Y("role:N", sort=roles, title=None, axis=alt.Axis(ticks=False, labelFontWeight="bold", labelPadding=6))
    at = alt.YOffset("run:N", sort=runs)
    x = alt.X("begin:Q", title=f"mean {table['unit'].iloc[0]} per layer", scale=house.room(ends["whole"], ends["said"]))
    bars = house.rows().mark_bar().encode(
        x=x, x2="end:Q", y=y, yOffset=at,
        color=alt.Color("part:N", scale=alt.Scale(domain=known, range=[LOOKS[name] for name in known]),
                        legend=alt.Legend(title=None)),
        tooltip=house.told(("role", "role"), ("run", "run"), ("part", "part"), ("amount_said", "a layer"),
                           ("share_said", "share"), ("whole_said", "in all"), ("said", "against dense")),
    )  # fmt: skip
    texts = house.rows().mark_text(align="left", dx=4, fontSize=11, color=house.INK).transform_filter("datum.last")
    texts = texts.encode(x="whole:Q", y=y, yOffset=at, text="said:N")
    return house.finished(alt.layer(bars, texts), _STEP * (len(runs) + 1) * len(roles))
