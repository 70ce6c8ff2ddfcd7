"""Tokens a second of decode steps over the context, and which method is the fastest from where on."""

from functools import partial

import pandas as pd

from reports.charts.batches import batches_chart, chart_batches, spoken_batches
from reports.contents import Contents
from reports.figures.serving_batches import WHAT, batches_figure
from reports.limits import MOST_FIGURES, MOST_PANELS
from reports.section import Drawing, Points, Section, together
from reports.tables.serving import overtakings, steps_over_contexts
from reports.words import serving as words
from reports.words.naming import slug

FEWEST = 3  # contexts that make a line


def serving_contexts(contents: Contents) -> Section | None:
    """At the fewest and the most sequences that were run."""
    at_once: dict[tuple[str, int], list[tuple[dict, pd.DataFrame]]] = {}
    for key, lines in steps_over_contexts(contents.serving):
        if lines["context"].nunique() >= FEWEST:
            at_once.setdefault((key["model"], int(key["batch"])), []).append((key, lines))
    batches = {model: [batch for other, batch in at_once if other == model] for model, _ in at_once}
    shown = {
        (model, batch): each
        for (model, batch), each in at_once.items()
        if batch in (min(batches[model]), max(batches[model]))
    }
    if not shown:
        return None
    sentences = [text for each in shown.values() for key, lines in each for text in _sentences(key, lines)]
    drawings = [
        drawn
        for (model, batch), each in list(shown.items())[:MOST_FIGURES]
        for drawn in _drawings(model, batch, each[:MOST_PANELS])
    ]
    return Section(WHAT["context"], [Points(sentences), *drawings], words.HOW_CONTEXTS)


def _drawings(model: str, batch: int, each: list[tuple[dict, pd.DataFrame]]) -> list[Drawing]:
    where = f"{model}, decode steps of {words.sequences(batch)}"
    panels = [(words.target_name(key), lines) for key, lines in each]
    charts = []
    for target, lines in panels:
        drawn, place = chart_batches(lines, "context"), f"{target}, {where}"
        charts.append(
            Drawing(
                slug(f"{place}-tokens-by-context"),
                f"{place}. {spoken_batches(drawn, 'context')}",
                None,
                drawn,
                partial(batches_chart, drawn, "context"),
                f"{WHAT['context']}: {place}",
                "contexts",
                place,
            )
        )
    return together(
        slug(f"{model}-{batch}-tokens-by-context"), charts, partial(batches_figure, panels, where, "context")
    )


def _sentences(key: dict, lines: pd.DataFrame) -> list[str]:
    where = f"{key['model']} on {words.target_name(key)}, {words.sequences(int(key['batch']))}"
    found = overtakings(lines, "context")
    if not found:
        return [f"{where}: nothing fits at any of these contexts."]
    if lines["method"].nunique() == 1:
        return []
    return [f"{where}: the fastest step that fits is {', then '.join(_part(*one) for one in found)}."]


def _part(method: str, first: int, last: int, crossing: float | None) -> str:
    span = f"at {first:,} tokens" if first == last else f"at {first:,} to {last:,} tokens"
    return f"{method} {span}" + (f" (overtaking near {crossing:,.0f})" if crossing is not None else "")
