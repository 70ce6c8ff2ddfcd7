"""Whole models that `prunesim measure` timed end to end, as rows beside predicted ones."""

from pathlib import Path
from typing import Any

import pandas as pd

from workloads.columns.inference import INFERENCE_COLUMNS
from workloads.errors import UserError
from workloads.files import read_json
from workloads.rows import to_frame

FORMAT = "prunesim-end-to-end"
KINDS = ("eager", "graph")  # launched from the host one by one, and as one CUDA graph
DENSE = "dense"


def is_end_to_end(path: Path) -> bool:
    """Whether a record is one of whole blocks and models, not of GEMMs."""
    return path.suffix == ".json"


def whole_rows(path: Path) -> pd.DataFrame:
    """A row for each whole model that was timed, dense or 2:4, launched from the host or as a graph: its time to the
    first token, or of one decode step. Raises UserError for what is no such record, and one of single blocks alone."""
    content = read_json(path, "measured models")
    try:
        if content["format"] != FORMAT or content["version"] != 1:
            raise KeyError("format")
        timed = [row for row in content["rows"] if row["what"] == "model"]
        rows = [_row(content, row, kind) for row in timed for kind in KINDS]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{path} is no record of `measure` with `end_to_end`: it lacks {error}; give the file as it was written"
        ) from None
    if not rows:
        raise UserError(f"{path} has times of single blocks alone; measure with `end_to_end=model`")
    return to_frame(rows, INFERENCE_COLUMNS)


def _row(content: dict[str, Any], timed: dict[str, Any], kind: str) -> dict[str, Any]:
    environment, kernel = content["environment"], str(timed["kernel"])
    dense = kernel == DENSE
    facts = {
        "model": content["model"], "method": DENSE if dense else f"2:4 ({kernel})", "target": environment["gpu"],
        "dtype": timed["dtype"], "kv_bits": 16, "tensor_parallel": 1, "host": kind, "batch": timed["batch"],
        "prompt": timed["seq"], "generate": 1, "source": "measured", "tool_version": environment["prunesim"],
    }  # fmt: skip
    if not timed["feasible"]:
        return {**facts, "feasible": False, "fits": False, "reason": timed["reason"]}
    ms = timed[f"{kind}_us"] / 1e3
    time = {"prefill_ms" if timed["phase"] == "prefill" else "decode_ms_per_token": ms}
    speedup = 1.0 if dense else timed[f"{kind}_speedup"]
    return {
        **facts, **time, "tokens_per_s": timed["batch"] / ms * 1e3, "fits": True, "speedup": speedup, "feasible": True,
        "reason": "",
    }  # fmt: skip
