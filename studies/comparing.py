"""Two results side by side: what moved, by how much, and why."""

from pathlib import Path

import pandas as pd

from reports.tables.moved import moved_table
from studies.results import read_result
from workloads.errors import UserError


def moved_between(before: Path, after: Path) -> pd.DataFrame:
    """`moved_table` of two folders of runs, or files of rows. Raises UserError where one has no rows."""
    found = [read_result(path) for path in (before, after)]
    sides = []
    for path, one in zip((before, after), found, strict=True):
        rows = one.rows
        if rows is None or rows.empty:
            raise UserError(f"compare: {path} has no result rows")
        sides.append(rows)
    return moved_table((sides[0], sides[1]), (found[0].quality, found[1].quality))
