"""Everything a report shows, computed once; the pages only lay it out."""

from dataclasses import dataclass

import pandas as pd

from reports import tables


@dataclass(frozen=True)
class Contents:
    title: str
    notes: list[str]
    rows: pd.DataFrame
    quality: pd.DataFrame
    headline: pd.DataFrame
    roles: pd.DataFrame
    levels: pd.DataFrame
    layers: pd.DataFrame
    infeasible: pd.DataFrame


def gather(rows: pd.DataFrame, quality: pd.DataFrame | None, title: str, notes: list[str]) -> Contents:
    """All tables of a report. Raises UserError when the rows are empty, incomplete or ambiguous."""
    rows = tables.checked(rows)
    quality = pd.DataFrame() if quality is None else quality
    return Contents(
        title=title,
        notes=list(notes),
        rows=rows,
        quality=quality,
        headline=tables.headline_table(rows, quality),
        roles=tables.role_table(rows),
        levels=tables.levels_table(rows),
        layers=tables.layer_table(rows),
        infeasible=tables.infeasible_table(rows),
    )
