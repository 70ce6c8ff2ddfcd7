"""Single operators of the dense models as others timed them, beside what is predicted of the same kernels."""

import pandas as pd

from reports.contents import Contents
from reports.section import Block, Points, Section, Table, Text, some_of
from reports.words.headings import by_name
from reports.words.serving import HOW_OPERATORS, percent
from workloads.columns.inference import PUBLISHED_OPERATOR_COLUMNS

FILE = "published-operators.csv"
COLUMNS = [
    # The times early: on a phone only the first columns are seen without scrolling.
    *("role", "phase", "published_us", "predicted_us", "error", "latency_error_p90", "sizes", "kernel", "published"),
    *("dtype", "tensor_parallel", "extrapolated"),
]
SHARED = ("tensor_parallel", "dtype", "published")
CAPTION = "One execution of each, as published and as predicted"


def published_operators(contents: Contents) -> Section | None:
    found = pd.DataFrame() if contents.whole is None else contents.whole.operators
    if found.empty:
        return None
    known = by_name(PUBLISHED_OPERATOR_COLUMNS)
    sources = list(dict.fromkeys(found["published"]))
    short = found.assign(published=found["published"].map(_whose))
    sentences, tables = [], []
    for (model, target), lines in short.sort_values("phase", ascending=False, kind="stable").groupby(
        ["model", "target"], sort=False
    ):
        place = f"{model} on {target}"
        sentences.append(_sentence(place, lines))
        tables.append(Table(lines, COLUMNS, name=place, caption=CAPTION, shared=SHARED, known=known))
    blocks: list[Block] = [Points(sentences), *some_of(tables, FILE), Text(f"{'. '.join(sources)}.", quiet=True)]
    return Section("Operators as others timed them", blocks, HOW_OPERATORS, {FILE: found})


def _whose(said: str) -> str:
    """Of a source and its conditions, its name alone: "microsoft/vidur"."""
    return said.partition("@")[0]


def _sentence(place: str, lines: pd.DataFrame) -> str:
    """How many, by whom, and how far predictions are from them."""
    off = lines["error"].abs().dropna()
    said = f"{place}: {len(lines)} published times ({', '.join(dict.fromkeys(lines['published']))})"
    if off.empty:
        return f"{said}, none of them predicted."
    return f"{said}; predictions are off by {percent(off.median())} in the middle and {percent(off.max())} at most."
