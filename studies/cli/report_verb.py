"""prunesim report"""

import sys
from pathlib import Path


def report(*rows: Path, out: Path, quality: Path | None = None, title: str = "Speedup report") -> None:
    """Write report.html, .csv, .md, .tex and figures from ROWS: .csv or .json files made by simulate, measure or run.

    Parameters
    ----------
    out
        Folder of the report.
    quality
        Perplexities: a .csv or .json made by eval or run.
    """
    import pandas as pd

    from reports import write_report
    from studies.published import spmm_table
    from studies.report import constants_for, notes_for, read_rows
    from workloads.errors import UserError
    from workloads.locking import writing
    from workloads.rows import QUALITY_COLUMNS

    if not rows and quality is None:
        raise UserError("report: give at least one file of rows, or --quality")
    frame = pd.concat([read_rows(path) for path in rows], ignore_index=True) if rows else None
    perplexities = read_rows(quality, QUALITY_COLUMNS) if quality else None
    notes = notes_for(frame) if frame is not None else []
    spmm = None if frame is None else spmm_table(frame)
    with writing(out):
        files = write_report(frame, perplexities, out, title, notes, constants=constants_for(frame), spmm=spmm)
    sys.stderr.write(f"wrote {files['report.html']}\n")
