"""Tokens a second of whole models over the number of sequences, and which method is the fastest from where on."""

from functools import partial

import pandas as pd

from reports.contents import Contents
from reports.figures.serving_batches import batches_figure
from reports.limits import MOST_FIGURES
from reports.section import Drawing, Points, Section
from reports.tables.serving import dense_of, overtakings, places, same_times
from reports.words import serving as words
from reports.words.naming import slug

FEWEST = 3  # batches that make a line
MOST_PANELS = 9


def serving_batches(contents: Contents) -> Section | None:
    each = [(key, lines) for key, lines in places(contents.serving) if lines["batch"].nunique() >= FEWEST]
    if not each:
        return None
    sentences = [text for key, lines in each for text in _sentences(key, lines)]
    twins = same_times(contents.serving)
    sentences += [f"{model}: {method} takes as long as {other} in all of this." for model, method, other in twins]
    together: dict[str, list[tuple[str, pd.DataFrame]]] = {}
    for key, lines in each:
        together.setdefault(f"{key['model']}, {words.sizes_text(key)}", []).append((words.target_name(key), lines))
    drawings = [
        Drawing(
            slug(f"{where}-tokens-by-batch"), f"Tokens a second over sequences: {where}",
            partial(batches_figure, panels[:MOST_PANELS], where), pd.concat(lines for _, lines in panels),
        )
        for where, panels in together.items()
    ]  # fmt: skip
    return Section("Tokens a second over sequences", [Points(sentences), *drawings[:MOST_FIGURES]], words.HOW_BATCHES)


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
