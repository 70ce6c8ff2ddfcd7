"""Times in Python's words: masks onto accelerators and GPUs, single GEMMs onto GPUs, studies and reports."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from prunesim.results import Gemms, Report, Rows
from studies.entries import overrides
from studies.progress import ProgressLine
from studies.report import read_rows
from studies.simulate import bundle_source, open_source, open_targets, simulate_frame, table_of
from workloads.bundle import MaskBundle
from workloads.errors import UserError

if TYPE_CHECKING:
    from studies.simulate import Source


def simulate(
    masks: MaskBundle | str | Path | None = None,
    *,
    on: str,
    tokens: int = 1,
    set: Mapping[str, Any] | None = None,
    sweep: Mapping[str, Sequence[Any]] | None = None,
    activation_density: float = 1.0,
    routing: str = "uniform",
    dtype: str = "",
    model: str | Path | None = None,
    pattern: str = "unstructured",
    density: float | None = None,
    seed: int = 0,
    fresh: bool = False,
) -> Rows:
    """Cycles, bytes and energy of every layer on an accelerator, or its predicted time on a GPU.

    `masks`: a bundle or its folder, or a .npy file of one mask; or none, and masks are generated for the shapes of `model` with
    `pattern`, `density` and `seed`. `set`: keys of the accelerator, {"array.height": 16}; `sweep`: keys with their values,
    one design for each combination.
    """
    from workloads.conditions import Conditions
    from workloads.routing import parse_routing

    conditions = Conditions(tokens, activation_density, parse_routing(routing))
    swept = [f"{key}={','.join(_value(value) for value in values)}" for key, values in (sweep or {}).items()]
    targets = open_targets(on, overrides(dict(set or {})), swept, dtype)
    source = _source(masks, model, pattern, density, seed, fresh)
    progress = ProgressLine(terminal_only=True)
    frame = simulate_frame(source, targets, conditions, progress)
    progress.close()
    return Rows(frame, table_of(frame, targets))


def _value(value: Any) -> str:
    return overrides({"key": value})[0].partition("=")[2]


def _source(
    masks: MaskBundle | str | Path | None,
    model: str | Path | None,
    pattern: str,
    density: float | None,
    seed: int,
    fresh: bool,
) -> "Source":
    if isinstance(masks, MaskBundle):
        if model is not None:
            raise UserError("simulate: give either masks or a `model` to generate them for")
        return bundle_source(masks, fresh)
    path = Path(masks) if masks is not None else None
    bundle, mask = (None, path) if path is not None and path.suffix == ".npy" else (path, None)
    return open_source(bundle, mask, str(model) if model is not None else None, pattern, density, seed, fresh)


def predict(
    gemms: pd.DataFrame | str | Path | Sequence[tuple[int, int, int]],
    *,
    on: str,
    dtype: str = "fp16",
    set: Mapping[str, Any] | None = None,
) -> Gemms:
    """Dense and 2:4 times of GEMMs on a GPU. `gemms`: (m, n, k) = (tokens, out_features, in_features) each, a frame with these
    columns, or a file: CSV or a SCALE-Sim topology."""
    from studies.gemm_files import SIZES, read_gemms
    from studies.predict import PREDICT_TABLE, predict_frame

    if isinstance(gemms, str | Path):
        sizes = read_gemms(Path(gemms))
    elif isinstance(gemms, pd.DataFrame):
        sizes = gemms
    else:
        sizes = pd.DataFrame(list(gemms), columns=list(SIZES))
    if missing := [name for name in SIZES if name not in sizes]:
        raise UserError(f"predict: the frame lacks the column {missing[0]!r}; it needs m, n and k")
    return Gemms(predict_frame(sizes, on, dtype, overrides(dict(set or {}))), PREDICT_TABLE)


def report(
    *rows: Rows | str | Path,
    out: str | Path,
    quality: pd.DataFrame | str | Path | None = None,
    title: str = "Speedup report",
) -> Report:
    """Writes report.html, tables and figures of result rows (objects or files) and, where given, perplexities into `out`."""
    from studies.reporting import make_report
    from workloads.columns.quality import QUALITY_COLUMNS

    frames = [each.frame if isinstance(each, Rows) else read_rows(Path(each)) for each in rows]
    perplexities = read_rows(Path(quality), QUALITY_COLUMNS) if isinstance(quality, str | Path) else quality
    return Report(Path(out), make_report(frames, perplexities, Path(out), title))


def run(study: str | Path, *, out: str | Path | None = None, fresh: bool = False) -> Report:
    """Runs a study file and writes its report; steps whose inputs did not change are skipped."""
    from studies.running.study_run import run_study
    from studies.study import read_study

    asked = read_study(Path(study))
    folder = Path(out) if out is not None else asked.out
    return Report(folder, run_study(asked, folder, fresh))
