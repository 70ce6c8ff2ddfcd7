"""prunesim report"""

import sys
from dataclasses import replace
from pathlib import Path

from studies.telling import tell

MANY = 300_000  # rows


def report(
    *rows: Path, out: Path, quality: Path | None = None, title: str = "Speedup report", style: Path | None = None
) -> None:
    """Write report.html, .csv, .md, .tex and figures from ROWS: .csv or .json files made by simulate, inference,
    measure or run, or folders of runs and reports, with their perplexities.

    Parameters
    ----------
    rows
        Files of rows (.csv or .json of simulate, predict of layers, measure or run), or folders of runs and reports.
    out
        Folder of the report.
    title
        What the page is called.
    quality
        Perplexities: a .csv or .json made by eval or run.
    style
        A matplotlib style file for the figures on paper, on top of prunesim's own.
    """
    from studies.progress import ProgressLine, counted
    from studies.report import read_rows
    from studies.reporting import make_report
    from studies.results import Found, read_result
    from workloads.columns.quality import QUALITY_COLUMNS

    progress = ProgressLine()
    found = [read_result(path) for path in counted(rows, "reading rows", len(rows), progress)]
    if quality:
        own = Found(quality=read_rows(quality, QUALITY_COLUMNS))
        found = [*(replace(each, quality=None) for each in found), own]
    count = sum(each.count for each in found)
    if count >= MANY:
        tell(f"a report of {count:,} rows takes minutes")
    progress(f"writing the report of {count:,} rows", 0, 0)
    files = make_report(found, out, title, style)
    progress.close()
    sys.stderr.write(f"wrote {files['report.html']}\n")
