"""Times of the operators of a file on a GPU: one row each, operators of a kind at once."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from simulator.gpu.named import find_gpu
from simulator.gpu.operators import VALUES_MOVED, Timing, all_reduce, decode, elementwise, linear, moe, prefill, spmv
from simulator.gpu.prediction import DTYPES
from simulator.gpu.spec import GpuSpec
from studies.once import check_once
from studies.operator_files import COLUMNS, LINE, OPERATION
from workloads.errors import UserError, unknown

OPERATOR_TABLE = (
    "operation", "phase", "batch", "q_tokens", "kv_tokens", "heads", "kv_heads", "m", "n", "k", "rows", "cols",
    "density", "tokens", "experts", "gpus", "message_bytes", "target", "dtype", "kernel", "latency_us", "bound",
    "latency_error_p90", "extrapolated",
)  # fmt: skip
HALVES = ("fp16", "bf16")
# What is one value for a whole call: rows that differ in it are predicted apart.
APART = (OPERATION, "phase", "dtype", "kernel", "routing", "kv_bits", "weight_bits", "group_size")


def predict_operators(operators: pd.DataFrame, on: Sequence[str], dtype: str, sets: Sequence[str] = ()) -> pd.DataFrame:
    """`operators` as `read_operators` returns them, the predicted columns behind their own, for every GPU; one of their
    own that has the name of a predicted one is kept as given_NAME. dtype: of rows that state none.

    Raises UserError for an unknown GPU, dtype or key, and naming the line of an operator that cannot be.
    """
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    check_once("on", on)
    frames = [_on_gpu(operators.assign(dtype=operators["dtype"].where(operators["dtype"] != "", dtype)), each, sets)
              for each in on]  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def _on_gpu(operators: pd.DataFrame, on: str, sets: Sequence[str]) -> pd.DataFrame:
    label, gpu = find_gpu(on, sets)
    columns = {
        "latency_us": np.empty(len(operators)), "latency_error_p90": np.empty(len(operators)),
        **{name: np.empty(len(operators), dtype=object) for name in ("bound", "extrapolated", "kernel", "error_basis")},
    }  # fmt: skip
    for _, rows in operators.groupby(list(APART), sort=False, dropna=False):
        places = operators.index.get_indexer(rows.index)
        timing = _timed(gpu, rows)
        for name, values in _columns(timing).items():
            columns[name][places] = values
    told = operators.assign(**{name: operators[name].where(operators[name].notna(), "") for name in COLUMNS})
    unused = [name for name in COLUMNS if (told[name] == "").all()]
    used = told.drop(columns=[LINE, *unused]).rename(columns=_given(operators))
    return used.assign(target=label, source="predicted", **columns)


def _given(operators: pd.DataFrame) -> dict[str, str]:
    added = ("latency_us", "latency_error_p90", "bound", "extrapolated", "kernel", "error_basis", "target", "source")
    return {name: f"given_{name}" for name in added if name in operators}


def _columns(timing: Timing) -> dict[str, Any]:
    return {
        "latency_us": timing.latency_us,
        "latency_error_p90": timing.latency_error_p90,
        "bound": timing.bound,
        "extrapolated": timing.extrapolated,
        "kernel": timing.kernel,
        "error_basis": timing.basis,
    }


def _timed(gpu: GpuSpec, rows: pd.DataFrame) -> Timing:
    """Rows that differ in sizes alone. An error names the first line that has it, and its own numbers."""
    run = CALLS.get(rows[OPERATION].iloc[0], _elementwise)
    try:
        return run(gpu, rows)
    except UserError:
        for i in range(len(rows)):
            try:
                run(gpu, rows.iloc[i : i + 1])
            except UserError as error:
                raise UserError(f"{rows[LINE].iloc[i]}: {error}") from None
        raise


def _sizes(rows: pd.DataFrame, *names: str) -> list[np.ndarray]:
    return [rows[name].to_numpy(dtype=np.int64) for name in names]


def _check_16_bits(rows: pd.DataFrame) -> None:
    first = rows.iloc[0]
    if first["dtype"] not in HALVES:
        raise UserError(f"dtype = {first['dtype']}: {first[OPERATION]} is predicted in fp16 and bf16")


def _attention(gpu: GpuSpec, rows: pd.DataFrame) -> Timing:
    _check_16_bits(rows)
    first = rows.iloc[0]
    batch, q, kv, heads, kv_heads, head_dim, window = _sizes(
        rows, "batch", "q_tokens", "kv_tokens", "heads", "kv_heads", "head_dim", "window"
    )
    bits, kernel = int(first["kv_bits"]), first["kernel"]
    if first["phase"] == "decode":
        return decode(gpu, batch, kv, heads, kv_heads, head_dim, window, bits, kernel)
    return prefill(gpu, batch, q, kv, heads, kv_heads, head_dim, window, bits, kernel=kernel)


def _linear(gpu: GpuSpec, rows: pd.DataFrame) -> Timing:
    first = rows.iloc[0]
    m, n, k = _sizes(rows, "m", "n", "k")
    return linear(gpu, m, n, k, first["dtype"], int(first["weight_bits"]), int(first["group_size"]), first["kernel"])


def _elementwise(gpu: GpuSpec, rows: pd.DataFrame) -> Timing:
    _check_16_bits(rows)
    n, cols = _sizes(rows, "rows", "cols")
    return elementwise(gpu, rows[OPERATION].iloc[0], n, cols)


def _moe(gpu: GpuSpec, rows: pd.DataFrame) -> Timing:
    _check_16_bits(rows)
    first = rows.iloc[0]
    tokens, hidden, ffn, experts, top_k, distinct = _sizes(
        rows, "tokens", "hidden", "expert_ffn", "experts", "top_k", "distinct_experts"
    )
    listed = distinct if distinct.any() else None
    bits = int(first["weight_bits"])
    return moe(gpu, tokens, hidden, ffn, experts, top_k, first["routing"], listed, bits, first["kernel"])


def _all_reduce(gpu: GpuSpec, rows: pd.DataFrame) -> Timing:
    gpus, message = _sizes(rows, "gpus", "message_bytes")
    return all_reduce(gpu, gpus, message, rows["kernel"].iloc[0])


def _spmv(gpu: GpuSpec, rows: pd.DataFrame) -> Timing:
    _check_16_bits(rows)
    n, cols = _sizes(rows, "rows", "cols")
    return spmv(gpu, n, cols, rows["density"].to_numpy(dtype=float), rows["kernel"].iloc[0])


CALLS: dict[str, Callable[[GpuSpec, pd.DataFrame], Timing]] = {
    "attention": _attention, "linear": _linear, "moe": _moe, "all_reduce": _all_reduce,
    "spmv": _spmv,
    **dict.fromkeys(VALUES_MOVED, _elementwise),
}  # fmt: skip
