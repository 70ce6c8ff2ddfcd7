"""A search: what it tried, its Pareto front as figures and as designs that can be used, which parameters matter."""

from functools import partial

import pandas as pd

from reports.charts.search import (
    chart_importance,
    chart_pair,
    chart_progress,
    importance_chart,
    pair_chart,
    progress_chart,
    spoken_importance,
    spoken_pair,
    spoken_progress,
)
from reports.contents import Contents
from reports.figures.search import importance_figure, pairs_figure, progress_figure
from reports.limits import MOST_PANELS
from reports.section import (
    PAGE,
    PAPER,
    READ,
    TERMINAL,
    Block,
    Drawing,
    Heading,
    Listing,
    Section,
    Table,
    Text,
    Verdicts,
    together,
)
from reports.tables.search import balanced, coverage, front_table, pairs, progress_table
from reports.words.headings import by_name, heading
from reports.words.naming import run_text, slug
from reports.words.present import cell
from reports.words.settings import shortened
from reports.words.units import in_units
from workloads.columns.column import Column
from workloads.columns.search import FIGURES, TRIAL_COLUMNS
from workloads.searched import Searched

COUNT = Column("count", "int", "designs", heading="Designs")
KNOWN = by_name((*TRIAL_COLUMNS, COUNT))
NAMED = ("design", "design_settings", "method", "pattern", "target_sparsity")
ENUMERATE = "enumerate"
_IN_TERMINAL = 12  # lines
_IN_TEXT = 40
_LISTED = 12  # machine files that a page shows
LEAD = (
    "A design is on the front where no other one that meets the constraints is at least as good in all objectives and "
    "better in one. Latency and energy are of the pruned linears alone."
)


def search(contents: Contents) -> Section | None:
    found = contents.searched
    if found is None:
        return None
    front = _named(front_table(found))
    blocks: list[Block] = [Verdicts(sentences(found), only=PAGE)]
    blocks += [Text(f"{said}.", only=READ - PAGE) for said, _ in sentences(found)]
    blocks += [*_pairs(found), *_progress(found), *_importance(found)]
    if len(front):
        blocks += _designs(found, front)
    refused = _refused(found)
    if len(refused):
        blocks.append(Table(refused, ["count", "reason"], "Why designs cannot run", known=KNOWN, file="trials.csv"))
    files = {"trials.csv": found.trials, **({"front.csv": front} if len(front) else {})}
    return Section("Search", blocks, LEAD, files)


def sentences(found: Searched) -> list[tuple[str, bool]]:
    """(sentence, is a warning)."""
    trials = found.trials
    every = "all" if found.sampler == ENUMERATE else f"{found.sampler}, seed {found.seed}"
    space = "" if found.designs is None else f" of {found.designs:,} combinations of values"
    repeats = int(trials["repeats"].notna().sum())
    again = f", {repeats:,} of them of a design tried before" if repeats else ""
    goals = ", ".join(KNOWN[name].title for name in found.objectives)
    under = f" under {', '.join(found.constraints)}" if found.constraints else ""
    tried = f"{found.title}, {found.passes}: {len(trials):,} trials ({every}){space}{again}; least {goals}{under}"
    said = [(tried, False)]
    barred, ran = int((~trials["feasible"]).sum()), trials["feasible"]
    if barred:
        said.append((f"{barred:,} of {len(trials):,} designs cannot run", barred == len(trials)))
    if found.constraints:
        outside = int((ran & ~trials["meets"]).sum())
        none = ran.any() and not trials["meets"].any()
        said.append((f"{outside:,} of {int(ran.sum()):,} designs that run break a constraint", bool(none)))
    front = _named(front_table(found))
    if front.empty:
        return said
    share = coverage(found)
    part = (
        ""
        if pd.isna(share)
        else f", which dominates {cell('covered', share).text} % of the box between the best and the worst"
    )
    said.append((f"{len(front):,} designs on the Pareto front{part}", False))
    for name in found.objectives:
        best = front.loc[front[name].idxmin()]
        said.append((f"Least {KNOWN[name].title}: {_design_text(best, found)}", False))
    middle = balanced(found)
    if middle is not None:
        best = front[front["design"] == middle].iloc[0]
        said.append((f"Nearest to the best of all: {_design_text(best, found)}", False))
    return said


def _design_text(line: pd.Series, found: Searched) -> str:
    shown, names = in_units(pd.DataFrame([line[list(found.objectives)].astype(float)]))
    parts = []
    for name in found.objectives:
        column = names.get(name, name)
        parts.append(f"{heading(column, KNOWN).text} {cell(column, shown[column].iloc[0], known=KNOWN).text}")
    return f"design {line['design']} ({line['design_settings']}; {run_text(dict(line))}): {', '.join(parts)}"


def _named(front: pd.DataFrame) -> pd.DataFrame:
    """With `design_settings`: where designs differ."""
    if front.empty:
        return front.assign(design_settings=[])
    return front.assign(design_settings=front["settings"].map(shortened(list(dict.fromkeys(front["settings"])))))


def _pairs(found: Searched) -> list[Block]:
    """A chart for each pair of objectives, and one figure on paper with all of them."""
    chosen = pairs(found)[:MOST_PANELS]
    charts, panels = [], []
    for x, y in chosen:
        table = chart_pair(found, x, y)
        what = f"{KNOWN[x].title} against {KNOWN[y].title}"
        panels.append((x, y, table))
        charts.append(
            Drawing(slug(f"front-{x}-{y}"), spoken_pair(table, x, y), None, table, partial(pair_chart, table, x, y),
                    f"{what}: {found.title}", "search-front", what)
        )  # fmt: skip
    return [*together("search-front", charts, partial(pairs_figure, found.title, panels))] if charts else []


def _progress(found: Searched) -> list[Block]:
    """Of a sampler's search: all designs have no order that would mean anything."""
    progress = progress_table(found) if found.sampler != ENUMERATE else pd.DataFrame()
    if len(progress) < 2:
        return []
    lines = chart_progress(progress)
    draw = partial(progress_figure, found.title, progress)
    title = f"What the front covers of the box between the best and the worst: {found.title}"
    return [Drawing("search-hypervolume", spoken_progress(lines), draw, lines, partial(progress_chart, lines), title)]


def _importance(found: Searched) -> list[Block]:
    if found.importance.empty:
        return [Text(found.importance_said, quiet=True)] if found.importance_said and len(found.parameters) else []
    lines = chart_importance(found.importance)
    draw = partial(importance_figure, found.title, found.importance)
    title = f"Which parameters matter: {found.title}"
    drawn = Drawing("search-importance", spoken_importance(lines), draw, lines, partial(importance_chart, lines), title)
    return [drawn, Text(found.importance_said, quiet=True)]


def _designs(found: Searched, front: pd.DataFrame) -> list[Block]:
    figures = [*found.objectives, *(name for name in FIGURES if name not in found.objectives)]
    columns = [*NAMED, *figures]
    caption = "Designs on the Pareto front"
    main = (*NAMED, *found.objectives)
    more = f"; the first {_IN_TERMINAL} of {len(front):,}" if len(front) > _IN_TERMINAL else ""
    blocks: list[Block] = [
        Table(front, columns, caption=caption, units=in_units, known=KNOWN, most_in_text=_IN_TEXT, file="front.csv",
              main=main, fold=False),
        Table(front, [*NAMED, *found.objectives], label="search-", paper_caption=f"{caption}: {found.title}.",
              units=in_units, known=KNOWN, only=PAPER),
        Table(front.head(_IN_TERMINAL), [*NAMED, *found.objectives], units=in_units, known=KNOWN, only=TERMINAL,
              caption=f"{found.title}: designs on the Pareto front{more}"),
    ]  # fmt: skip
    blocks += [Text(f"{said}.", only=TERMINAL) for said, _ in sentences(found)]
    if found.machines:
        blocks.append(Heading("As machine files", only=PAGE))
        for number, text in list(found.machines.items())[:_LISTED]:
            file = f"machines/design-{number}.toml"
            blocks.append(Listing(f"Design {number}: {file}", text, file, only=PAGE))
        if len(found.machines) > _LISTED:
            blocks.append(Text(f"{len(found.machines) - _LISTED:,} more in machines/.", quiet=True, only=PAGE))
    return blocks


def _refused(found: Searched) -> pd.DataFrame:
    """reason and how many designs it stops, the most first."""
    reasons = found.trials.loc[~found.trials["feasible"], "reason"]
    return reasons.value_counts(sort=True).rename("count").reset_index()
