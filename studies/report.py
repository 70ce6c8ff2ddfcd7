"""Reads result rows back and collects what the reader of a report must know."""

import io
import json
from pathlib import Path

import pandas as pd

from simulator.accelerators import ACCELERATORS
from simulator.energy import sources
from workloads.errors import UserError
from workloads.rows import LAYER_COLUMNS, Column, to_frame

NEEDED = ("model", "method", "layer", "target", "tokens", "cycles", "dense_cycles")
ATTENTION = "head_features"  # a column that rows of `prunesim attention` have, and rows of layers have not


def read_rows(path: Path, columns: tuple[Column, ...] = LAYER_COLUMNS) -> pd.DataFrame:
    """Rows written by simulate, eval or run as .csv or .json, those of earlier versions too: what they lack is empty. Raises
    UserError if the file is not one."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read rows from {path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        records = json.loads(text) if path.suffix == ".json" else []
        names = list(records[0]) if records else text.split("\n", 1)[0].split(",")
        if columns is LAYER_COLUMNS and ATTENTION in names:
            raise UserError(f"{path} holds rows of attention, not of layers; a report has no place for them")
        if path.suffix == ".json":
            return to_frame(records, columns)
        if columns is LAYER_COLUMNS:
            missing = [name for name in NEEDED if name not in names]
            if missing:
                raise UserError(f"{path} lacks the column {missing[0]!r}; give a file written by simulate or run")
        texts = {column.name: str for column in columns if column.kind == "text"}
        frame = pd.read_csv(io.StringIO(text), dtype=texts, keep_default_na=False, na_values=[""])
        return to_frame(frame.to_dict("records"), columns)
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise UserError(f"{path} does not hold result rows: {str(error).splitlines()[0]}") from None


def constants_for(rows: pd.DataFrame | None) -> pd.DataFrame | None:
    """What the energies and areas in the rows rest on, with sources; None where the rows have none."""
    if rows is None or rows["energy_pj"].isna().all():
        return None
    return pd.DataFrame(sources())


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
