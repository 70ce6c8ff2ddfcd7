"""Reads result rows back and collects what the reader of a report must know."""

import io
import json
from pathlib import Path

import pandas as pd

from simulator.accelerators import ACCELERATORS
from workloads.errors import UserError
from workloads.rows import LAYER_COLUMNS, Column, to_frame

NEEDED = ("model", "method", "layer", "target", "tokens", "cycles", "dense_cycles")


def read_rows(path: Path, columns: tuple[Column, ...] = LAYER_COLUMNS) -> pd.DataFrame:
    """Rows written by simulate, eval or run as .csv or .json. Raises UserError if the file is not one."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read rows from {path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        if path.suffix == ".json":
            return to_frame(json.loads(text), columns)
        if columns is LAYER_COLUMNS:
            missing = [name for name in NEEDED if name not in text.split("\n", 1)[0].split(",")]
            if missing:
                raise UserError(f"{path} lacks the column {missing[0]!r}; give a file written by simulate or run")
        texts = {column.name: str for column in columns if column.kind == "text"}
        frame = pd.read_csv(io.StringIO(text), dtype=texts, keep_default_na=False, na_values=[""])
        return to_frame(frame.to_dict("records"), columns)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} does not hold result rows: {str(error).splitlines()[0]}") from None


def notes_for(rows: pd.DataFrame) -> list[str]:
    """The approximations of every accelerator in the rows, and of what the rows leave out."""
    notes = [
        f"{name}: {note}"
        for name in dict.fromkeys(rows["target"])
        if name in ACCELERATORS
        for note in ACCELERATORS[name].notes
    ]
    if rows["role"].str.startswith("expert_").any():
        notes.append("Every expert is timed as if all tokens were routed to it; whole-model sums overstate experts.")
    notes.append("Only the pruned linear layers are timed: no attention, norms, embeddings or output head.")
    return notes
