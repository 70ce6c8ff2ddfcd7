"""A report of result rows from anywhere, with what its reader must know of them."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from reports import write_report
from studies.published import spmm_table
from studies.report import columns_for, constants_for, notes_for
from workloads.errors import UserError
from workloads.locking import writing


def make_report(frames: Sequence[pd.DataFrame], quality: pd.DataFrame | None, out: Path, title: str) -> dict[str, Path]:
    """Writes the report of all `frames` together into `out`; returns its files. Raises UserError where there is nothing
    to report."""
    if not frames and quality is None:
        raise UserError("report: give at least one file of rows, or `quality`")
    rows = pd.concat(frames, ignore_index=True) if frames else None
    notes = notes_for(rows) if rows is not None else []
    spmm = None if rows is None else spmm_table(rows)
    with writing(out):
        return write_report(
            rows, quality, out, title, notes, constants=constants_for(rows), spmm=spmm, declared=columns_for(rows)
        )
