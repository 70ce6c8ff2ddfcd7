"""A report of result rows from anywhere, with what its reader must know of them."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from reports import write_report
from simulator.targets import OURS
from studies.published import spmm_table
from studies.report import columns_for, constants_for, notes_for
from studies.results import Found, joined
from workloads.errors import UserError
from workloads.locking import writing
from workloads.whole_models import WholeModels


def make_report(found: Sequence[Found], out: Path, title: str, style: Path | None = None) -> dict[str, Path]:
    """Writes the report of all of them together into `out`; returns its files. Raises UserError where there is nothing
    to report."""
    rows, quality = joined([each.rows for each in found]), joined([each.quality for each in found])
    whole = whole_of(found)
    if rows is None and quality is None and whole is None:
        raise UserError("report: give at least one file of rows, or `quality`")
    notes = notes_for(rows) if rows is not None else []
    spmm = None if rows is None else spmm_table(rows)
    constants, declared = constants_for(rows), columns_for(rows)
    with writing(out):
        return write_report(
            rows, quality, out, title, notes, constants=constants, spmm=spmm, declared=declared, whole=whole,
            style=style,
        )  # fmt: skip


def whole_of(found: Sequence[Found]) -> WholeModels | None:
    """None where there are no rows of whole models. Roofs are those of our own machines as they are shipped, as no code
    of others is run. Raises UserError for operations without rows."""
    rows, operations = joined([each.inference for each in found]), joined([each.operations for each in found])
    if rows is None:
        if operations is not None:
            raise UserError("report: operations of whole models alone; give the rows that they are of, too")
        return None
    from studies.roofs import roofs_of
    from studies.study import StudyAccelerator

    shipped = [name for name in dict.fromkeys(rows.loc[rows["settings"] == "", "target"]) if name in OURS]
    roofs = roofs_of([StudyAccelerator(name=name) for name in shipped])
    operators = joined([each.operators for each in found])
    return WholeModels(rows, _or_none(operations), roofs, operators=_or_none(operators))


def _or_none(frame: pd.DataFrame | None) -> pd.DataFrame:
    return pd.DataFrame() if frame is None else frame
