"""Reads result rows back and collects what the reader of a report must know."""

import io
from pathlib import Path

import pandas as pd

from simulator.accelerators import ACCELERATORS
from simulator.energy import sources
from simulator.gpu import GPUS, load_gpu
from simulator.gpu.confidence import stated
from simulator.gpu.layers import NOTES as GPU_NOTES
from simulator.gpu.prediction import precision_of
from studies.published import dtype_of, published_notes
from workloads.errors import UserError
from workloads.parsing import parse_json
from workloads.rows import LAYER_COLUMNS, Column, to_frame

NEEDED = ("model", "method", "layer", "target", "tokens", "speedup")
ATTENTION = "head_features"  # a column that rows of `prunesim attention` have, and rows of layers have not


def read_rows(path: Path, columns: tuple[Column, ...] = LAYER_COLUMNS) -> pd.DataFrame:
    """Rows written by simulate, eval or run as .csv or .json, those of earlier versions too: what they lack is empty. Raises
    UserError if the file is not one."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read rows from {path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        records = parse_json(text) if path.suffix == ".json" else []
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
    """The approximations of every accelerator and GPU in the rows, and of what the rows leave out."""
    notes = [
        f"{name}: {note}"
        for name in dict.fromkeys(rows["target"])
        if name in ACCELERATORS
        for note in ACCELERATORS[name].notes
    ]
    notes += gpu_notes(rows) + published_notes(rows)
    if rows["role"].str.startswith("expert_").any():
        notes.append("Every expert is timed as if all tokens were routed to it; whole-model sums overstate experts.")
    notes.append("Only the pruned linear layers are timed: no attention, norms, embeddings or output head.")
    return notes


def gpu_notes(rows: pd.DataFrame) -> list[str]:
    """What predictions leave out, and what their stated errors rest on; where masks were not needed, that; what timings leave out."""
    notes = []
    predicted = rows[(rows["source"] == "predicted") & rows["target"].isin(GPUS)]
    if len(predicted):
        notes += [f"GPUs: {note}" for note in GPU_NOTES]
        for name, dtype in dict.fromkeys(zip(predicted["target"], predicted["settings"].map(dtype_of), strict=True)):
            error = precision_of(load_gpu(name), dtype).error
            notes.append(f"{name}, {dtype}: of ten predictions nine are within {stated(error)} ({error.basis}).")
        if (predicted["mask_sha256"].fillna("") == "").any():
            notes.append("Masks: none needed, none generated where GPUs alone are asked for generated 2:4 masks.")
    if (rows["source"] == "measured").any():
        notes.append(
            "Measured: the multiplication with operands that are ready; padding of tokens, quantizing of inputs and scaling of integer "
            "results are not in the time. Speedups of quantized kernels are over the dense kernel of 16 bits; predicted ones over the dense "
            "kernel of their own type."
        )
    return notes
