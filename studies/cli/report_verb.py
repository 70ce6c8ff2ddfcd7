"""prunesim report"""

import sys
from pathlib import Path

from studies.telling import tell

MANY = 300_000  # rows


def report(
    *rows: Path, out: Path, quality: Path | None = None, title: str = "Speedup report", style: Path | None = None
) -> None:
    """Write report.html, .csv, .md, .tex and figures from ROWS: .csv or .json files made by simulate, measure or run,
    or folders of runs and reports, with their perplexities.

    Parameters
    ----------
    out
        Folder of the report.
    quality
        Perplexities: a .csv or .json made by eval or run.
    style
        A matplotlib style file for the figures on paper, on top of prunesim's own.
    """
    from studies.progress import ProgressLine, counted
    from studies.report import read_rows
    from studies.reporting import make_report
    from studies.results import read_result
    from workloads.columns.quality import QUALITY_COLUMNS

    progress = ProgressLine()
    found = [read_result(path) for path in counted(rows, "reading rows", len(rows), progress)]
    perplexities = [read_rows(quality, QUALITY_COLUMNS)] if quality else [known for _, known in found]
    count = sum(len(frame) for frame, _ in found if frame is not None)
    if count >= MANY:
        tell(f"a report of {count:,} rows takes minutes")
    progress(f"writing the report of {count:,} rows", 0, 0)
    files = make_report([frame for frame, _ in found], perplexities, out, title, style)
    progress.close()
    sys.stderr.write(f"wrote {files['report.html']}\n")
