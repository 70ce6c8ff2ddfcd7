"""How tables of publications are written into the package."""

import csv
import gzip
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def write_table(file: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """The same rows give the same bytes, and the file says nothing of when it was made."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    file.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
    print(f"{file}: {len(rows)} rows, {file.stat().st_size:,} bytes")
