"""Speedup of each layer shape against the tokens that pass through it."""

from functools import partial

import pandas as pd

from reports.charts.lines import chart_curves, spoken_curves, tokens_chart
from reports.contents import Contents
from reports.figures.by_tokens import tokens_figure
from reports.limits import MOST_FIGURES
from reports.section import PAPER, READ, Drawing, Section, Table, some_of
from reports.tables.by_tokens import MASKED, curves, table_columns, token_tables
from reports.tables.sums import by
from reports.words import statements
from reports.words.naming import masks_text, slug

_TITLE = "Speedup against tokens"


def by_tokens(contents: Contents) -> Section | None:
    lines = contents.plain if contents.plain.empty else curves(contents.plain)
    if lines.empty:
        return None
    tables = some_of([_table(key, table) for key, table in token_tables(lines)], "by-tokens.csv")
    figures = [_figure(key, part) for key, part in by(lines, MASKED)[:MOST_FIGURES]]
    return Section(_TITLE, [*figures, *tables], statements.HOW_BY_TOKENS, files={"by-tokens.csv": lines})


def _table(key: dict, table: pd.DataFrame) -> Table:
    said = masks_text(key)
    caption = f"{said}: dense time / time by tokens."
    return Table(
        table,
        table_columns(table),
        said,
        label="tokens-",
        paper_caption=caption,
        shared=("settings", "source"),
        only=READ | PAPER,
    )


def _figure(key: dict, lines: pd.DataFrame) -> Drawing:
    said, shown = masks_text(key), chart_curves(lines)
    return Drawing(
        slug(f"{said}-speedup-by-tokens"),
        spoken_curves(shown),
        partial(tokens_figure, lines, said),
        shown,
        partial(tokens_chart, shown),
        f"{_TITLE}: {said}",
        "tokens",
        said,
    )
