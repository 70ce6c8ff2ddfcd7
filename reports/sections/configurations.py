"""Figures of one kind, one for each configuration: shown one at a time on a page."""

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from reports.contents import Configuration
from reports.limits import MOST_CHARTS, MOST_DRAWN, MOST_SERIES
from reports.section import PAGE, READ, Block, Drawing, Text
from reports.tables.sums import MASKS
from reports.words.naming import config_text, slug
from reports.words.settings import settings_text


def stem(key: dict) -> str:
    """What the names of a configuration's files begin with."""
    settings = f"-{settings_text(key['settings'])}" if key["settings"] else ""
    return slug(f"{key['model']}-{key['target']}{settings}-{key['tokens']}-tokens")


class Kind:
    """A kind of figure. `lines` makes the data of one configuration's chart from its rows, `spoken` its text, `spec`
    the chart of these lines; `draw` the figure on paper from the rows. `words` says, instead of a chart, what its lines
    say where one sentence does; "" where it takes a chart."""

    def __init__(
        self,
        name: str,
        title: str,
        lines: Callable[[pd.DataFrame], pd.DataFrame],
        spec: Callable[[pd.DataFrame], dict],
        spoken: Callable[[pd.DataFrame], str],
        draw: Callable[[pd.DataFrame], Figure] | None,
        words: Callable[[pd.DataFrame], str] = lambda lines: "",
    ):
        self.name, self.title = name, title
        self._lines, self._spec, self._spoken, self._draw, self._words = lines, spec, spoken, draw, words

    def blocks(self, each: Sequence[Configuration]) -> list[Block]:
        charts: list[Block] = []
        said: list[Block] = []
        drawn = 0
        for key, rows in each[:MOST_CHARTS]:
            lines = self._lines(rows)
            if lines.empty:
                continue
            where = config_text(key)
            if words := self._words(lines):
                said.append(Text(f"{where}: {words}", only=PAGE))
                continue
            # A figure with no room for all its runs is an example, of which one is enough.
            whole = len(rows[MASKS].drop_duplicates()) <= MOST_SERIES
            on_paper = self._draw is not None and (not drawn or (whole and drawn + len(lines) <= MOST_DRAWN))
            drawn += len(lines)
            draw = partial(self._draw, rows) if self._draw and on_paper else None
            charts.append(
                Drawing(
                    f"{stem(key)}-{self.name}",
                    f"{where}. {self._spoken(lines)}",
                    draw,
                    lines,
                    partial(self._spec, lines),
                    f"{self.title}: {where}",
                    self.name,
                    where,
                    only=READ if draw else PAGE,
                )
            )
        if len(each) > MOST_CHARTS and charts:
            first = f"Drawn are the first {MOST_CHARTS} of {len(each):,} configurations"
            said.append(Text(f"{first}; a report of the rows of others alone draws those.", quiet=True, only=PAGE))
        return [*charts, *said]
