"""What each method gains over sequences and context."""

from functools import partial
from itertools import islice

import pandas as pd

from reports.contents import Contents
from reports.figures.serving_gains import Panel, gains_figure
from reports.limits import MOST_FIGURES
from reports.section import Drawing, Section, Table, some_of
from reports.tables.serving import KNOWN, STEP, alike, fitting, gain_grids, gains_table, same_times
from reports.words import serving as words
from reports.words.naming import slug

MOST_PANELS = 9
COLUMNS = [
    *("target", "method", "least_speedup", "least_batch", "least_context", "most_speedup", "most_batch"),
    "most_context",
]
APART = ("settings", "kv_bits", "tensor_parallel", "host")  # shown where lines differ in them


def serving_gains(contents: Contents) -> Section | None:
    table = contents.serving
    found = gains_table(table)
    if found.empty:
        return None
    twins = {(model, name) for model, name, _ in same_times(table)}
    maps: dict[tuple[str, str], list[Panel]] = {}
    for key, method, grid in gain_grids(table):
        if (key["model"], method) not in twins and not alike(grid.stack()):
            what = f"{key['model']}, {_work(key[STEP])}"
            panel = (words.target_name(key), grid, fitting(table, key, method, grid))
            maps.setdefault((what, method), []).append(panel)
    columns = [*COLUMNS, *(name for name in APART if found.groupby("target")[name].nunique().max() > 1)]
    tables = [
        Table(lines, columns, f"{model}, {_work(step)}: speedup where it fits", known=KNOWN, fold=False)
        for (model, step), lines in found.groupby(["model", STEP], sort=False)
    ]
    drawings = [_drawing(what, method, panels[:MOST_PANELS]) for (what, method), panels in maps.items()]
    drawings.sort(key=lambda drawn: ", 2:4:" not in drawn.text)  # the one that is asked for most stands first
    files = {"gains.csv": found}
    shown = some_of(tables, "gains.csv")
    return Section("Over sequences and context", [*shown, *islice(drawings, MOST_FIGURES)], words.HOW_GAINS, files)


def _work(step: bool) -> str:
    return "one decode step" if step else "whole generations"


def _drawing(what: str, method: str, panels: list[Panel]) -> Drawing:
    data = pd.concat([grid.stack().rename("speedup").reset_index().assign(target=name) for name, grid, _ in panels])
    text = f"Speedup over dense, {what}, {method}: by sequences and context"
    return Drawing(slug(f"{what}-{method}-gain-map"), text, partial(gains_figure, method, panels, what), data)
