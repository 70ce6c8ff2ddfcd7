"""Tokens a second of decode steps over the context, and which method is the fastest from where on."""

from functools import partial

import pandas as pd

from reports.contents import Contents
from reports.figures.serving_batches import WHAT, batches_figure
from reports.limits import MOST_FIGURES, MOST_PANELS
from reports.section import Drawing, Points, Section
from reports.tables.serving import overtakings, steps_over_contexts
from reports.words import serving as words
from reports.words.naming import slug

FEWEST = 3  # contexts that make a line


def serving_contexts(contents: Contents) -> Section | None:
    """At the fewest and the most sequences that were run."""
    together: dict[tuple[str, int], list[tuple[dict, pd.DataFrame]]] = {}
    for key, lines in steps_over_contexts(contents.serving):
        if lines["context"].nunique() >= FEWEST:
            together.setdefault((key["model"], int(key["batch"])), []).append((key, lines))
    batches = {model: [batch for other, batch in together if other == model] for model, _ in together}
    shown = {
        (model, batch): each
        for (model, batch), each in together.items()
        if batch in (min(batches[model]), max(batches[model]))
    }
    if not shown:
        return None
    sentences = [text for each in shown.values() for key, lines in each for text in _sentences(key, lines)]
    drawings = [
        Drawing(
            slug(f"{model}-{batch}-tokens-by-context"), f"{WHAT['context']}: {model}, {words.sequences(batch)}",
            partial(
                batches_figure, [(words.target_name(key), lines) for key, lines in each[:MOST_PANELS]],
                f"{model}, decode steps of {words.sequences(batch)}", "context",
            ),
            pd.concat(lines for _, lines in each),
        )
        for (model, batch), each in shown.items()
    ]  # fmt: skip
    return Section(WHAT["context"], [Points(sentences), *drawings[:MOST_FIGURES]], words.HOW_CONTEXTS)


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
