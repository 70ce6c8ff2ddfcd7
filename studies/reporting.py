"""A report of result rows from anywhere, with what its reader must know of them."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from reports import write_report
from studies.published import spmm_table
from studies.report import columns_for, constants_for, notes_for
from studies.results import joined
from workloads.errors import UserError
from workloads.locking import writing


def make_report(
    frames: Sequence[pd.DataFrame | None],
    qualities: Sequence[pd.DataFrame | None],
    out: Path,
    title: str,
    style: Path | None = None,
) -> dict[str, Path]:
    """Writes the report of all `frames` and `qualities` together into `out`; returns its files. Raises UserError where
    there is nothing to report."""
    rows, quality = joined(frames), joined(qualities)
    if rows is None and quality is None:
        raise UserError("report: give at least one file of rows, or `quality`")
    notes = notes_for(rows) if rows is not None else []
    spmm = None if rows is None else spmm_table(rows)
    constants, declared = constants_for(rows), columns_for(rows)
    with writing(out):
        return write_report(
            rows, quality, out, title, notes, constants=constants, spmm=spmm, declared=declared, style=style
        )
