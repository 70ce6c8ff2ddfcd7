"""GEMM sizes from the command line, and what a GPU is predicted to take for GEMMs: one row each."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from simulator.gpu import predict
from simulator.gpu.named import find_gpu
from studies.gemm_files import SIZES
from studies.once import check_once
from studies.tables_of_shapes import whole_size
from workloads.errors import UserError

PREDICT_TABLE = (
    "m", "n", "k", "target", "dtype", "dense_us", "sparse24_us", "speedup", "bound", "dense_bound", "tile",
    "dense_tile",
    "speedup_error_p90", "verdict", "extrapolated", "reason",
)  # fmt: skip


def parse_shapes(shapes: Sequence[str]) -> pd.DataFrame:
    """["2048,4096,4096"] -> one row of m, n, k. Raises UserError for anything else."""
    rows = []
    for shape in shapes:
        parts = shape.split(",")
        if len(parts) != 3:
            raise UserError(f"`shapes` {shape!r}: expected m,n,k, such as 2048,4096,4096")
        rows.append([whole_size(part, f"`shapes` {shape}: {name}") for name, part in zip(SIZES, parts, strict=True)])
    return pd.DataFrame(rows, columns=list(SIZES))


def predict_on(gemms: pd.DataFrame, on: Sequence[str], dtype: str, sets: Sequence[str] = ()) -> pd.DataFrame:
    """`predict_frame` of every GPU, one below the other. Raises UserError where there is none."""
    if not on:
        raise UserError("say which GPU to predict `on`, such as h200")
    check_once("on", on)
    return pd.concat([predict_frame(gemms, each, dtype, sets) for each in on], ignore_index=True)


def predict_frame(gemms: pd.DataFrame, on: str, dtype: str, sets: Sequence[str] = ()) -> pd.DataFrame:
    """`gemms` with the predicted columns behind its own; one of its own that has the name of a predicted one is kept as
    given_NAME. Raises UserError for an unknown GPU, dtype or key."""
    label, spec = find_gpu(on, sets)
    m, n, k = (_sizes(gemms[name]) for name in SIZES)
    added = {"target": label, "dtype": dtype, "source": "predicted", **predict(spec, m, n, k, dtype).columns()}
    kept = gemms.rename(columns={name: f"given_{name}" for name in added if name in gemms})
    return kept.assign(**added)


def _sizes(column: pd.Series) -> np.ndarray:
    """(rows,) int64. Raises UserError naming the first value that is no whole number."""
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    if (wrong := numbers % 1 != 0).any():  # of NaN and infinity too
        place = int(wrong.argmax())
        raise UserError(f"row {place + 1}: {column.name} = {column.iloc[place]!r}; sizes are whole numbers from 1")
    return numbers.astype(np.int64)
