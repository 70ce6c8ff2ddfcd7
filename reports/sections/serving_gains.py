"""What each method gains over sequences and context."""

from functools import partial

from reports.charts.gains import chart_gains, gains_chart, spoken_gains
from reports.contents import Contents
from reports.figures.serving_gains import Panel, gains_figure
from reports.limits import MOST_FIGURES, MOST_PANELS
from reports.section import Drawing, Section, Table, some_of, together
from reports.tables.serving import KNOWN, STEP, alike, fitting, gain_grids, gains_table, same_times
from reports.words import serving as words
from reports.words.naming import slug

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
    maps: dict[tuple[str, str], list[tuple[dict, Panel]]] = {}
    for key, method, grid in gain_grids(table):
        if (key["model"], method) not in twins and not alike(grid.stack()):
            what = f"{key['model']}, {_work(key[STEP])}"
            panel = (words.target_name(key), grid, fitting(table, key, method, grid))
            maps.setdefault((what, method), []).append((key, panel))
    columns = [*COLUMNS, *(name for name in APART if found.groupby("target")[name].nunique().max() > 1)]
    tables = [
        Table(lines, columns, f"{model}, {_work(step)}: speedup where it fits", known=KNOWN, fold=False)
        for (model, step), lines in found.groupby(["model", STEP], sort=False)
    ]
    ordered = sorted(maps.items(), key=lambda item: item[0][1] != "2:4")  # the one asked for most stands first
    drawings = [
        drawn
        for (what, method), panels in ordered[:MOST_FIGURES]
        for drawn in _drawings(what, method, panels[:MOST_PANELS])
    ]
    files = {"gains.csv": found}
    shown = some_of(tables, "gains.csv")
    return Section("Over sequences and context", [*shown, *drawings], words.HOW_GAINS, files)


def _work(step: bool) -> str:
    return "one decode step" if step else "whole generations"


def _drawings(what: str, method: str, panels: list[tuple[dict, Panel]]) -> list[Drawing]:
    charts = []
    for key, (target, grid, fits) in panels:
        shown = chart_gains({"model": key["model"], "target": key["target"], "method": method}, grid, fits)
        place = f"{what}, {method}, on {target}"
        charts.append(
            Drawing(
                slug(f"{place}-gain-map"),
                f"{place}. {spoken_gains(shown)}",
                None,
                shown,
                partial(gains_chart, shown),
                f"Speedup over dense by sequences and context: {place}",
                "gains",
                place,
            )
        )
    draw = partial(gains_figure, method, [panel for _, panel in panels], what)
    return together(slug(f"{what}-{method}-gain-map"), charts, draw)
