"""Everything a report shows, computed once; the pages only lay it out."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from reports.tables import layers as tables
from reports.tables.by_tokens import curves, token_tables
from reports.tables.compare import compare_tables
from reports.tables.designs import design_tables, split
from reports.tables.gemms import sources_table
from reports.tables.quality import perplexity_table, quality_tables
from reports.tables.sums import checked, known
from workloads.errors import UserError

_CONSTANT = {"name": "constant", "source": "constant_source"}  # other words than those of result rows


@dataclass(frozen=True)
class Contents:
    """rows is empty where nothing was run on a target, quality where nothing was evaluated; so are the tables made of them.

    `plain`: the rows but for those of sweeps, which `designs` sums up, and for published figures that are a ratio or one time alone,
    which only `sources` can show; all other tables of rows are made of `plain`.
    """

    title: str
    notes: list[str]
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)
    plain: pd.DataFrame = field(default_factory=pd.DataFrame)
    quality: pd.DataFrame = field(default_factory=pd.DataFrame)
    perplexities: pd.DataFrame = field(default_factory=pd.DataFrame)
    quality_tables: list[tuple[dict, pd.DataFrame]] = field(default_factory=list)
    headline: pd.DataFrame = field(default_factory=pd.DataFrame)
    compared: list[tuple[dict, pd.DataFrame]] = field(default_factory=list)
    roles: pd.DataFrame = field(default_factory=pd.DataFrame)
    levels: pd.DataFrame = field(default_factory=pd.DataFrame)
    layers: pd.DataFrame = field(default_factory=pd.DataFrame)
    infeasible: pd.DataFrame = field(default_factory=pd.DataFrame)
    energy: pd.DataFrame = field(default_factory=pd.DataFrame)
    designs: list[tuple[dict, pd.DataFrame]] = field(default_factory=list)
    sources: pd.DataFrame = field(default_factory=pd.DataFrame)
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    by_tokens: list[tuple[dict, pd.DataFrame]] = field(default_factory=list)
    spmm: pd.DataFrame = field(default_factory=pd.DataFrame)
    timelines: pd.DataFrame = field(default_factory=pd.DataFrame)
    constants: pd.DataFrame = field(default_factory=pd.DataFrame)


def check_any(rows: pd.DataFrame | None, quality: pd.DataFrame | None) -> None:
    """Raises UserError when there is nothing to report, or rows are incomplete or ambiguous."""
    if rows is not None and not rows.empty:
        checked(rows)
    elif quality is None or quality.empty:
        raise UserError("there are no result rows to report on; run a study that simulates or evaluates something")


def gather(
    rows: pd.DataFrame | None,
    quality: pd.DataFrame | None,
    title: str,
    notes: list[str],
    timelines: pd.DataFrame | None = None,
    constants: pd.DataFrame | None = None,
    spmm: pd.DataFrame | None = None,
) -> Contents:
    """All tables of a report. Raises UserError as `check_any`, and where two perplexities stand for one thing."""
    check_any(rows, quality)
    perplexities = perplexity_table(quality)
    evaluated = {
        "quality": pd.DataFrame() if quality is None else quality,
        "perplexities": perplexities,
        "quality_tables": list(quality_tables(perplexities)),
    }
    if rows is None or rows.empty:
        return Contents(title, list(notes), **evaluated)
    rows = checked(rows)
    plain, swept = split(rows[(rows["source"] != "published") | known(rows)])
    shown = {} if plain.empty else _tables(plain, quality, perplexities)
    powered = constants is not None and rows["energy_pj"].notna().any()
    return Contents(
        title,
        list(notes),
        rows,
        plain,
        **evaluated,
        **shown,
        designs=[] if swept.empty else list(design_tables(swept)),
        sources=sources_table(rows),
        spmm=pd.DataFrame() if spmm is None else spmm,
        timelines=pd.DataFrame() if timelines is None else timelines,
        constants=constants.rename(columns=_CONSTANT) if powered and constants is not None else pd.DataFrame(),
    )


def _tables(rows: pd.DataFrame, quality: pd.DataFrame | None, perplexities: pd.DataFrame) -> dict[str, Any]:
    headline = tables.headline_table(rows, quality)
    lines = curves(rows)
    return {
        "curves": lines,
        "by_tokens": list(token_tables(lines)),
        "headline": headline,
        "compared": list(compare_tables(rows, perplexities)),
        "roles": tables.role_table(rows),
        "levels": tables.levels_table(rows),
        "layers": tables.layer_table(rows),
        "infeasible": tables.infeasible_table(rows),
        "energy": headline[headline["energy_pj"].notna()],
    }
