"""Operators of a decoder: what the presets say of kernels that their fits were not shown, beside four numbers."""

import json
from pathlib import Path
from typing import Any

from validation.comparison import Comparison, percent, table

MODEL = "GPU operators"
FIGURES = Path(__file__).parents[1] / "sources" / "gpu_operators.json"
SAYS = (
    "Every kernel fitted to about half of its published measurements (vLLM, SGLang and NCCL by aiconfigurator; Vidur; "
    "LLMServingSim; LLMCompass; MACKO), and judged on points that the fit was not shown: whole attention geometries, "
    "models, weight shapes or numbers of GPUs, then every sixth shape. Written by `benchmarks/fit_operators.py "
    "--write`; the measurements do not ship. Beside it, fitted to and judged on the same points, what a textbook has: "
    "t0 + max(FLOP / (e_c peak), bytes / (e_m bandwidth)), in prefill with a ramp S / (S + a). Published for "
    "comparison, of other data and mostly of whole inference steps: LLMCompass 4.1 % (10.9 % over operators), GenZ 5.8 "
    "%, Vidur below 9 %."
)
WAYS = {"groups": "whole groups", "shapes": "every sixth shape"}


def left_out() -> Comparison:
    """Each case is the median error of one kernel of one card and one way of leaving out."""
    found: dict[str, list[dict[str, Any]]] = json.loads(FIGURES.read_text(encoding="utf-8"))
    ways = [
        (*_name(row), WAYS[row["left_out"]], row["points"], *_errors(row), *_theirs(row)) for row in found["left_out"]
    ]
    regimes = [(*_name(row), row["regime"], row["points"], *_errors(row), *_theirs(row)) for row in found["regime"]]
    kinds = [(row["kind"], WAYS[row["left_out"]], row["points"], *_errors(row), *_theirs(row)) for row in found["kind"]]
    figures = ("points", "median", "mean", "nine of ten within", "four numbers: median", "mean")
    tables = [
        table(("operation", "left out", *figures), kinds),
        table(("card", "operation", "kernel", "left out", *figures), ways),
        table(("card", "operation", "kernel", "bound by", *figures), regimes),
    ]
    errors = tuple(row["median"] / 100 for row in found["left_out"])
    return Comparison(MODEL, "measured kernels left out of the fit", "silicon", errors, SAYS, tables)


def _name(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["preset"], row["kind"], row["kernel"]


def _errors(row: dict[str, Any]) -> tuple[str, str, str]:
    return percent(row["median"] / 100), percent(row["mape"] / 100), percent(row["p90"] / 100)


def _theirs(row: dict[str, Any]) -> tuple[str, str]:
    return percent(row["baseline_median"] / 100), percent(row["baseline_mape"] / 100)
