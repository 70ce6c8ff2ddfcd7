"""Tokens a second of whole models over the number of sequences, and which method is the fastest from where on."""

from functools import partial

import pandas as pd

from reports.charts.batches import batches_chart, chart_batches, spoken_batches
from reports.contents import Contents
from reports.figures.serving_batches import batches_figure
from reports.limits import MOST_FIGURES, MOST_PANELS
from reports.section import Drawing, Points, Section, together
from reports.tables.serving import dense_of, overtakings, places, same_times
from reports.words import serving as words
from reports.words.naming import slug

FEWEST = 3  # batches that make a line


def serving_batches(contents: Contents) -> Section | None:
    each = [(key, lines) for key, lines in places(contents.serving) if lines["batch"].nunique() >= FEWEST]
    if not each:
        return None
    sentences = [text for key, lines in each for text in _sentences(key, lines)]
    twins = same_times(contents.serving)
    sentences += [f"{model}: {method} takes as long as {other} in all of this." for model, method, other in twins]
    places_of: dict[str, list[tuple[str, pd.DataFrame]]] = {}
    for key, lines in each:
        places_of.setdefault(f"{key['model']}, {words.sizes_text(key)}", []).append((words.target_name(key), lines))
    drawings = [
        drawn
        for where, panels in list(places_of.items())[:MOST_FIGURES]
        for drawn in _drawings(where, panels[:MOST_PANELS])
    ]
    return Section("Tokens a second over sequences", [Points(sentences), *drawings], words.HOW_BATCHES)


def _drawings(where: str, panels: list[tuple[str, pd.DataFrame]]) -> list[Drawing]:
    charts = []
    for target, lines in panels:
        shown, place = chart_batches(lines), f"{target}, {where}"
        charts.append(
            Drawing(
                slug(f"{place}-tokens-by-batch"),
                f"{place}. {spoken_batches(shown)}",
                None,
                shown,
                partial(batches_chart, shown),
                f"Tokens a second over sequences: {place}",
                "batches",
                place,
            )
        )
    return together(slug(f"{where}-tokens-by-batch"), charts, partial(batches_figure, panels, where))


def _sentences(key: dict, lines: pd.DataFrame) -> list[str]:
    where = f"{key['model']} on {words.target_name(key)}, {words.sizes_text(key)}"
    found = overtakings(lines)
    if not found:
        return [f"{where}: nothing fits at any of these batches."]
    parts = [_part(*one) for one in found]
    dense = dense_of(lines)
    more = ""
    if len(dense) and not dense["usable"].all():
        most = int(dense["largest_batch"].max())
        more = f"; the dense model fits {words.sequences(most) if most else 'not even one sequence'}"
        also = lines.groupby("method", sort=False)["largest_batch"].max()
        best = also.idxmax()
        more += f", {best} {int(also.max()):,}" if also.max() > most else ""
    if len(found) == 1 and lines["method"].nunique() == 1:
        return [f"{where}: {more.removeprefix('; ')}."] if more else []
    return [f"{where}: the fastest that fits is {', then '.join(parts)}{more}."]


def _part(method: str, first: int, last: int, crossing: float | None) -> str:
    span = f"at {words.sequences(first)}" if first == last else f"at {first:,} to {last:,} sequences"
    return f"{method} {span}" + (f" (overtaking near {crossing:.0f})" if crossing is not None else "")
