"""Amdahl's law on whole models: what the time of each method goes to, beside the dense model's."""

from functools import partial
from itertools import islice

import pandas as pd

from reports.charts.shares import chart_shares, shares_chart
from reports.contents import Contents
from reports.figures.serving_shares import shares_figure
from reports.limits import MOST_CHARTS, MOST_FIGURES, MOST_SERIES
from reports.section import PAGE, READ, Block, Drawing, Points, Section, Table, Text
from reports.sections.serving import FILE
from reports.tables.serving import GROUPS, KNOWN, alike, dense_of, places, telling
from reports.words import serving as words
from reports.words.naming import slug
from reports.words.present import times_text

LIMITS = [
    *("model", "target", "batch", "prompt", "generate", *(f"{group}_share" for group in GROUPS)),
    *("free_linears_speedup", "bound"),
]
ALL_RUN = "all methods take as long as the dense model, so there is no chart of them"


def serving_shares(contents: Contents) -> Section | None:
    each = [(key, lines) for key, lines in places(contents.serving) if lines["method"].nunique() > 1]
    if not each:
        return None
    sentences: list[str] = []
    drawings: list[Drawing] = []
    dense: list[pd.DataFrame] = []
    for key, lines in each:
        where = f"{key['model']} on {words.target_name(key)}, {words.sizes_text(key)}"
        panels = [(batch, lines[lines["batch"] == batch].head(MOST_SERIES)) for batch in telling(lines)]
        dense += [dense_of(part) for _, part in panels]
        if all(alike(part["speedup"]) for _, part in panels):
            sentences.append(f"{where}: {ALL_RUN}.")
            continue
        name, text = slug(f"{where}-shares"), f"Where the time goes: {where}. {_told(panels)}"
        shown = chart_shares(pd.concat(part for _, part in panels))
        draw = partial(shares_figure, panels, where) if len(drawings) < MOST_FIGURES else None
        spec = partial(shares_chart, shown)
        only = READ if draw else PAGE
        title = f"Where the time goes: {where}"
        drawings.append(Drawing(name, text, draw, shown, spec, title, "shares", where, only=only))
    blocks: list[Block] = [_limits(pd.concat(dense))] if any(map(len, dense)) else []
    blocks += [Points(sentences)] if sentences else []
    if len(drawings) > MOST_CHARTS:
        first = f"Drawn are the first {MOST_CHARTS} of {len(drawings)}; serving.csv has the shares of all"
        blocks.append(Text(first, FILE, only=PAGE))
    return Section("Amdahl's law", [*blocks, *islice(drawings, MOST_CHARTS)], words.HOW_SHARES)


def _limits(dense: pd.DataFrame) -> Table:
    caption = (
        "The dense model's time by kind of operation. Linears free: as many times as fast it would be if its linears "
        "took no time; no mask and no bits of weights give more"
    )
    return Table(dense, LIMITS, caption, shared=("model", "prompt", "generate"), known=KNOWN, file=FILE, fold=False)


def _told(panels: list[tuple[int, pd.DataFrame]]) -> str:
    return " ".join(
        f"{words.sequences(batch)}: "
        + ", ".join(f"{m} {times_text(s)}" for m, s in zip(part["method"], part["speedup"], strict=True))
        + "."
        for batch, part in panels
    )
