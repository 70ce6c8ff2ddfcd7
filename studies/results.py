"""Results where they lie: a file of rows, or the folder of a run or report."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from studies.report import read_rows
from workloads.columns.quality import QUALITY_COLUMNS
from workloads.errors import UserError

Result = tuple[pd.DataFrame | None, pd.DataFrame | None]  # rows, perplexities


def read_result(path: Path) -> Result:
    """The rows.csv and quality.csv of a folder, or the rows of a file. Raises UserError where there is neither."""
    if not path.is_dir():
        return read_rows(path), None
    rows, quality = path / "rows.csv", path / "quality.csv"
    if not rows.exists() and not quality.exists():
        raise UserError(f"{path} holds neither rows.csv nor quality.csv; give the folder of a run or of a report")
    return (
        read_rows(rows) if rows.exists() else None,
        read_rows(quality, QUALITY_COLUMNS) if quality.exists() else None,
    )


def joined(frames: Sequence[pd.DataFrame | None]) -> pd.DataFrame | None:
    """All of them below one another, lines that are alike in everything once; None of none."""
    given = [frame for frame in frames if frame is not None]
    if len(given) < 2:
        return given[0] if given else None
    return pd.concat(given, ignore_index=True).drop_duplicates(ignore_index=True)
