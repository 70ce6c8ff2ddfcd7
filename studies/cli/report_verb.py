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
    from studies.report import read_rows
    from studies.reporting import make_report
    from workloads.columns.quality import QUALITY_COLUMNS

    perplexities = read_rows(quality, QUALITY_COLUMNS) if quality else None
    files = make_report([read_rows(path) for path in rows], perplexities, out, title)
    sys.stderr.write(f"wrote {files['report.html']}\n")
