"""Sweeps: the designs of each as one table, fastest first, with their Pareto fronts."""

from functools import partial

import pandas as pd

from reports.charts.designs import chart_designs, designs_chart, spoken_designs
from reports.contents import Contents
from reports.figures.pareto import pareto_figure
from reports.limits import MOST_FIGURES, cut
from reports.section import (
    PAGE,
    PAPER,
    READ,
    TERMINAL,
    TEXT,
    Block,
    Drawing,
    Heading,
    Section,
    Table,
    Text,
    Verdicts,
    some_of,
)
from reports.sections.verdict import between
from reports.tables.designs import COSTS
from reports.words.naming import config_text, slug
from reports.words.present import times_text
from reports.words.settings import swept_keys
from reports.words.units import in_units

COLUMNS = [
    *("design", "design_settings", "method", "pattern", "latency_us", "cycles", "speedup", "energy_pj", "energy_ratio"),
    *("edp_pj_us", "area_mm2", "front", "seeds", "infeasible_layers", "no_baseline_layers", "reason"),
]
TERMINAL_COLUMNS = [
    *("design_settings", "method", "pattern", "latency_us", "speedup", "energy_pj", "energy_ratio", "edp_pj_us"),
    *("area_mm2", "front", "infeasible_layers", "no_baseline_layers"),
]
_IN_TERMINAL = 10  # lines of a sweep
_IN_TEXT = 40  # lines of a sweep that are still read in plain text


def designs(contents: Contents) -> Section | None:
    if not contents.designs:
        return None
    shown, _ = cut(contents.designs)
    tables = [_table(key, table) for key, table in contents.designs]
    blocks: list[Block] = [Verdicts([_sentence(key, table) for key, table in shown], only=PAGE)]
    laid_out = some_of(tables, "designs.csv")
    for number, (key, table) in enumerate(shown):
        if number < MOST_FIGURES:
            blocks += _figures(key, table)
        blocks += [Heading(config_text(key), only=TEXT), Text(f"{designs_verdict(table)[0]}.", only=TEXT)]
        blocks += [laid_out[number], _front(key, table)]
    blocks += laid_out[len(shown) :]
    for key, table in contents.designs:
        blocks += _in_terminal(key, table)
    lines = pd.concat([table.assign(**_told(key)) for key, table in contents.designs])
    return Section("Designs", blocks, files={"designs.csv": lines})


def _sentence(key: dict, table: pd.DataFrame) -> tuple[str, bool]:
    said, warns = designs_verdict(table)
    return f"{config_text(key)}: {said}.", warns


def _told(key: dict) -> dict:
    """What a line of designs.csv needs beside its own columns; the settings of a line are its own, in full."""
    return {name: value for name, value in key.items() if name != "settings"}


def _table(key: dict, table: pd.DataFrame) -> Table:
    caption = f"{config_text(key)}: designs, fastest first"
    return Table(table, COLUMNS, caption=caption, units=in_units, most_in_text=_IN_TEXT)


def _front(key: dict, table: pd.DataFrame) -> Table:
    tried = table["settings"].nunique()
    caption = f"{config_text(key)}: designs on a Pareto front, of {tried:,} that were tried."
    return Table(
        table[table["front"] != ""], COLUMNS, label="designs-", paper_caption=caption, units=in_units, only=PAPER
    )


def _in_terminal(key: dict, table: pd.DataFrame) -> list[Block]:
    top = table.head(_IN_TERMINAL)
    more = f"; the fastest {len(top)} of {len(table):,} lines" if len(table) > len(top) else ""
    caption = f"{config_text(key)}: designs{more}"
    return [
        Table(top, TERMINAL_COLUMNS, caption=caption, units=in_units, only=TERMINAL),
        Text(f"{designs_verdict(table)[0]}.", only=TERMINAL),
    ]


def _figures(key: dict, table: pd.DataFrame) -> list[Block]:
    """A chart for each cost that designs differ in, and one figure on paper with all of them."""
    name = slug(f"{key['model']}-{key['target']}-{key['tokens']}-tokens-designs")
    draw = partial(pareto_figure, key, table)
    whole = table[table["infeasible_layers"] == 0]
    costs = [cost for cost in COSTS if whole[cost].nunique() > 1]
    if not costs:
        return [Drawing(name, f"Latency against energy and area: {config_text(key)}", draw, table, only=READ - PAGE)]
    drawings: list[Block] = []
    for number, cost in enumerate(costs):
        shown = chart_designs(table, cost).assign(**_told(key))
        title = f"Latency against {COSTS[cost]}: {config_text(key)}"
        drawings.append(
            Drawing(
                name if not number else f"{name}-{COSTS[cost]}",
                spoken_designs(shown, cost),
                None if number else draw,
                shown,
                partial(designs_chart, shown, cost),
                title,
                name,
                COSTS[cost],
                only=PAGE if number else READ,
            )
        )
    return drawings


def designs_verdict(table: pd.DataFrame) -> tuple[str, bool]:
    """(sentence, is a warning) of a table of `design_tables`."""
    whole = table[table["infeasible_layers"] == 0]
    barred = table.loc[table["infeasible_layers"] > 0, "settings"].nunique()
    parts = [f"{table['settings'].nunique():,} designs that differ in {', '.join(swept_keys(table['settings']))}"]
    slow = hungry = 0
    if whole["speedup"].notna().any():
        slow, hungry = int((whole["speedup"] < 1).sum()), int((whole["energy_ratio"] < 1).sum())
        parts.append(f"speedup {between(whole['speedup'].dropna())}")
        if whole["energy_ratio"].notna().any():
            parts.append(f"energy ratio {between(whole['energy_ratio'].dropna())}")
        fastest = whole.iloc[0]
        over = (
            "no dense run"
            if pd.isna(fastest["speedup"])
            else f"{times_text(fastest['speedup'])} over its own dense run"
        )
        parts.append(f"fastest: {fastest['design_settings']} ({over})")
    results = f"of {len(whole):,} design and mask pairs" if table["method"].nunique() > 1 else f"of {len(whole):,}"
    parts += [f"{slow:,} {results} slower than dense"] if slow else []
    parts += [f"{hungry:,} {results} with more energy than dense"] if hungry else []
    bare = table.loc[table["no_baseline_layers"] > 0, "settings"].nunique()
    parts += [f"{bare:,} without a dense baseline, which does not fit"] if bare else []
    parts += [f"{barred:,} design{'' if barred == 1 else 's'} cannot run every layer"] if barred else []
    return "; ".join(parts), bool(slow or hungry or barred or bare)
