"""GEMM sizes from a file or the command line, and what a GPU is predicted to take for them: one row a GEMM."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from simulator.gpu import GpuSpec, load_gpu, predict
from simulator.gpu.prediction import MAX_SIZE
from workloads.errors import UserError, one_line

SIZES = ("m", "n", "k")
PREDICT_TABLE = (
    "m", "n", "k", "target", "dtype", "dense_us", "sparse24_us", "speedup", "bound", "dense_bound", "tile", "dense_tile",
    "speedup_error_p90", "verdict", "extrapolated", "reason",
)  # fmt: skip


def read_gemms(path: Path) -> pd.DataFrame:
    """The rows of a CSV file with the columns m, n and k (whole numbers, 1 to 2^24); other columns stay as they are.

    Raises UserError naming the file, and the line and column of what is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read GEMMs from {path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        check_fields(path, text)
        frame = pd.read_csv(
            io.StringIO(text), dtype=dict.fromkeys(SIZES, str), skipinitialspace=True, skip_blank_lines=False
        )
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV file: {one_line(error)}") from None
    missing = [name for name in SIZES if name not in frame]
    if missing:
        raise UserError(
            f"{path} lacks the column {missing[0]!r}; it needs m (tokens), n (out_features), k (in_features)"
        )
    if frame.empty:
        raise UserError(f"{path} has a header and no rows")
    for name in SIZES:
        frame[name] = [
            whole_size(value, f"{path} line {line}: {name}") for line, value in enumerate(frame[name], start=2)
        ]
    return frame


def check_fields(path: Path, text: str) -> None:
    """Raises UserError where a name stands twice in the header or a line has more or fewer fields than it."""
    lines = csv.reader(io.StringIO(text), skipinitialspace=True)
    header = next(lines, [])
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{path} has the column {twice!r} twice")
    for fields in lines:
        if fields and len(fields) != len(header):
            raise UserError(f"{path} line {lines.line_num}: {len(fields)} fields, the header has {len(header)}")


def parse_shapes(shapes: Sequence[str]) -> pd.DataFrame:
    """["2048,4096,4096"] -> one row of m, n, k. Raises UserError for anything else."""
    rows = []
    for shape in shapes:
        parts = shape.split(",")
        if len(parts) != 3:
            raise UserError(f"--shapes {shape!r}: expected m,n,k, such as 2048,4096,4096")
        rows.append([whole_size(part, f"--shapes {shape}: {name}") for name, part in zip(SIZES, parts, strict=True)])
    return pd.DataFrame(rows, columns=list(SIZES))


def whole_size(value: object, where: str) -> int:
    """3 and "3.0" are sizes, "3.5", "", 0 and -1 are not. Raises UserError starting with `where`."""
    text = "" if not isinstance(value, str) else value.strip()
    if not re.fullmatch(r"[+-]?\d{1,12}(\.0*)?", text):
        raise UserError(f"{where} = {text!r}; sizes are whole numbers from 1 to {MAX_SIZE}")
    number = int(text.split(".")[0])
    if not 1 <= number <= MAX_SIZE:
        raise UserError(f"{where} = {number}; sizes go from 1 to {MAX_SIZE}")
    return number


def predict_frame(gemms: pd.DataFrame, on: str, dtype: str, sets: Sequence[str] = ()) -> pd.DataFrame:
    """`gemms` with the predicted columns behind its own; one of its own that has the name of a predicted one is kept as
    given_NAME. Raises UserError for an unknown GPU, dtype or key."""
    spec: GpuSpec = load_gpu(on, sets)
    m, n, k = (gemms[name].to_numpy(dtype=np.int64) for name in SIZES)
    added = {"target": on, "dtype": dtype, "source": "predicted", **predict(spec, m, n, k, dtype).columns()}
    kept = gemms.rename(columns={name: f"given_{name}" for name in added if name in gemms})
    return kept.assign(**added)
