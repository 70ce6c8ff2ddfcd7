"""Whole blocks and models that `prunesim measure` timed end to end: the file, and its models as rows beside predicted
ones."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from measurement.noise import noisy
from measurement.published import WHOLE_MODELS, is_name
from workloads.columns.inference import INFERENCE_COLUMNS
from workloads.errors import UserError, unknown
from workloads.files import plain, read_json, write_text
from workloads.rows import to_frame

FORMAT = "prunesim-end-to-end"
VERSION = 1
KINDS = ("eager", "graph")  # of a GPU: launched from the host one by one, and as one CUDA graph
CPU_KINDS = ("cold", "warm")
DENSE = "dense"
TABLE = (
    "phase", "kernel", "batch", "seq", "dtype", "warm_us", "warm_tokens_per_s", "warm_speedup", "warm_spread",
    "cold_us", "cold_speedup", "eager_us", "eager_speedup", "graph_us", "graph_speedup", "feasible", "reason",
)  # fmt: skip


def write_end_to_end(
    path: Path, environment: dict[str, Any], model: str, rows: Iterable[dict[str, Any]]
) -> pd.DataFrame:
    """Rows of measurement.blocks or measurement.cpu.blocks with the environment, as JSON; whole after every row, so
    that a failure keeps what came before. Returns what was written, without samples."""
    collected: list[Any] = []
    for row in rows:
        collected.append(plain(row))
        content = {
            "format": FORMAT,
            "version": VERSION,
            "model": model,
            "environment": plain(environment),
            "rows": collected,
        }
        write_text(path, json.dumps(content, indent=None, allow_nan=False) + "\n")
    return pd.DataFrame([{name: row.get(name) for name in TABLE} for row in collected]).dropna(axis=1, how="all")


def is_end_to_end(path: Path) -> bool:
    """Whether a record is one of whole blocks and models, not of GEMMs."""
    return path.suffix == ".json"


def whole_rows(path: Path) -> pd.DataFrame:
    """A row for each whole model that was timed: its time to the first token, or of one decode step; of a GPU dense or
    2:4, launched from the host or as a graph, of a CPU each variant, cold and warm. Raises UserError for what is no
    such record, and one of single blocks alone."""
    if is_name(path) and not path.exists():
        raise unknown("record of whole models", str(path), [WHOLE_MODELS])
    content = read_json(path, "measured models")
    try:
        if content["format"] != FORMAT or content["version"] != VERSION:
            raise KeyError("format")
        timed = [row for row in content["rows"] if row["what"] == "model"]
        kinds = KINDS if content["environment"].get("gpu") else CPU_KINDS
        rows = [_row(content, row, kind) for row in timed for kind in kinds]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{path} is no record of `measure` with `end_to_end`: it lacks {error}; give the file as it was written"
        ) from None
    if not rows:
        raise UserError(f"{path} has times of single blocks alone; measure with `end_to_end=model`")
    return to_frame(rows, INFERENCE_COLUMNS)


def _row(content: dict[str, Any], timed: dict[str, Any], kind: str) -> dict[str, Any]:
    kernel = str(timed["kernel"])
    dense = kernel == DENSE
    facts = {
        "model": content["model"], **_machine(content["environment"], kernel, kind),
        "dtype": timed["dtype"], "kv_bits": 32 if timed["dtype"] == "fp32" else 16, "tensor_parallel": 1,
        "batch": timed["batch"], "prompt": timed["seq"], "generate": 1, "source": "measured",
        "tool_version": content["environment"]["prunesim"],
    }  # fmt: skip
    if not timed["feasible"] or noisy(timed["reason"], kind):
        return {**facts, "feasible": False, "fits": False, "reason": timed["reason"]}
    ms = timed[f"{kind}_us"] / 1e3
    time = {"prefill_ms" if timed["phase"] == "prefill" else "decode_ms_per_token": ms}
    speedup = 1.0 if dense else timed[f"{kind}_speedup"]
    return {
        **facts, **time, "tokens_per_s": timed["batch"] / ms * 1e3, "fits": True, "speedup": speedup, "feasible": True,
        "reason": "",
    }  # fmt: skip


def _machine(environment: dict[str, Any], kernel: str, kind: str) -> dict[str, Any]:
    if environment.get("gpu"):
        method = DENSE if kernel == DENSE else f"2:4 ({kernel})"
        return {"method": method, "target": environment["gpu"], "host": kind}
    settings = f"l2={kind} threads={environment['threads']}"
    return {"method": kernel, "target": environment["cpu"], "host": "eager", "settings": settings}
