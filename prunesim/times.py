"""Times in Python's words: masks onto accelerators and GPUs, single GEMMs onto GPUs, studies and reports."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from measurement.shapes import SPREAD
from prunesim.results import Gemms, Report, Result, Rows
from studies.designs import On, open_targets
from studies.entries import overrides, swept
from studies.progress import ProgressLine
from studies.report import perplexities_of, read_rows
from studies.simulate import bundle_source, check_halo, open_source, simulate_frame, table_of
from workloads.arguments import typed
from workloads.bundle import MaskBundle
from workloads.errors import UserError

if TYPE_CHECKING:
    from studies.simulate import Source


@typed
def simulate(
    masks: MaskBundle | str | Path | None = None,
    *,
    on: On | Sequence[On],
    tokens: int | None = None,
    phase: str = "",
    batch: int | None = None,
    prompt: int | None = None,
    context: int | None = None,
    include: str | Sequence[str] = (),
    set: Mapping[str, Any] | None = None,
    sweep: Mapping[str, Any] | None = None,
    activation_density: float = 1.0,
    routing: str | Path | Sequence[float] | Mapping[int, Sequence[float]] = "uniform",
    halo_reuse: bool = False,
    dtype: str = "",
    model: str | Path | None = None,
    pattern: str = "unstructured",
    density: float | None = None,
    seed: int = 0,
    fresh: bool = False,
) -> Rows:
    """Cycles, bytes and energy of every layer on an accelerator, or its predicted time on a GPU.

    `masks`: a bundle or its folder, or a .npy file of one mask; or none, and masks are generated for the shapes of
    `model` with `pattern`, `density` and `seed`. `on`: a name, "file.py:Name", a machine file, or a design made in
    Python, Vitcod(array=Array(32, 32)); or several of these. `tokens` pass through each layer together, 1 unless given,
    or follow from a `phase`: "prefill" (`batch`, `prompt`) or "decode" (`batch`, `context`); `include` adds rows of its
    "attention" and "head", or of a network's "moves". `set`: keys of the accelerator, {"array.height": 16};
    `sweep`: keys with their values or a range, {"array.height": "16:128:16"}, one design for each combination.
    `halo_reuse`: inputs that several windows of a convolution share come from DRAM once.
    """
    from studies.phase_rows import checked_included, phase_of, rows_beside, tokens_of
    from workloads.conditions import Conditions
    from workloads.routing_counts import given_routing

    asked = phase_of(phase, batch, prompt, context)
    roles = checked_included([include] if isinstance(include, str) else include, asked)
    conditions = Conditions(tokens_of(asked, tokens), activation_density, given_routing(routing), halo_reuse)
    targets = open_targets(on, overrides(set or {}), swept(sweep or {}), dtype)
    for target in targets:
        target.check(conditions)
    source = _source(masks, model, pattern, density, seed, fresh)
    check_halo(source, conditions)
    progress = ProgressLine(terminal_only=True)
    more = rows_beside(roles, asked, conditions, source, targets)
    frame = simulate_frame(source, targets, conditions, progress, more)
    progress.close()
    return Rows(frame, table_of(frame, targets))


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


@typed
def predict(
    gemms: pd.DataFrame | str | Path | Sequence[tuple[int, int, int]] | None = None,
    *,
    on: str | Path | Sequence[str | Path],
    dtype: str = "fp16",
    model: str | Path | None = None,
    phase: str = "",
    tokens: int | None = None,
    batch: int | None = None,
    prompt: int | None = None,
    set: Mapping[str, Any] | None = None,
) -> Gemms:
    """Dense and 2:4 times of GEMMs on a GPU, or on several. `gemms`: (m, n, k) = (tokens, out_features, in_features)
    each, a frame with these columns, or a file: CSV or a SCALE-Sim topology. Or a CSV file of operators, whose times
    then are returned (docs/gpu.md). Or the linear layers of `model`, a row for each shape, of a `phase` ("prefill" or
    "decode", both unless given) with `batch` and `prompt`, or of `tokens`."""
    from studies.gemm_files import SIZES, read_gemms
    from studies.model_gemms import MODEL_COLUMNS, model_gemms
    from studies.operator_files import is_operators, read_operators
    from studies.predict import PREDICT_TABLE, predict_on
    from studies.predict_operators import OPERATOR_TABLE, predict_operators

    gpus = [str(each) for each in ([on] if isinstance(on, str | Path) else on)]
    sets = overrides(set or {})
    if (gemms is None) == (model is None):
        raise UserError("predict: give either `gemms` or a `model`")
    if model is not None:
        sizes = model_gemms(str(model), phase, batch, prompt, tokens)
        return Gemms(predict_on(sizes, gpus, dtype, sets), (*MODEL_COLUMNS, *PREDICT_TABLE))
    if isinstance(gemms, str | Path):
        if is_operators(Path(gemms)):
            return Gemms(predict_operators(read_operators(Path(gemms)), gpus, dtype, sets), OPERATOR_TABLE)
        sizes = read_gemms(Path(gemms))
    elif isinstance(gemms, pd.DataFrame):
        sizes = gemms
    else:
        sizes = pd.DataFrame(list(gemms or ()), columns=list(SIZES))
    if missing := [name for name in SIZES if name not in sizes]:
        raise UserError(f"predict: the frame lacks the column {missing[0]!r}; it needs m, n and k")
    return Gemms(predict_on(sizes, gpus, dtype, sets), PREDICT_TABLE)


@typed
def measure(
    masks: MaskBundle | str | Path | None = None,
    *,
    out: str | Path | None = None,
    model: str | Path | None = None,
    shapes: Sequence[tuple[int, int, int]] = (),
    on: str = "cuda",
    kernels: Sequence[str] | str = "",
    dtype: str = "",
    tokens: Sequence[int] | int | str = "",
    pattern: str = "",
    density: Sequence[float] | float | str = "",
    runs: int = 0,
    threads: int = 1,
    spread: float = SPREAD,
    compile: bool = False,
    l2: str = "cold",
    seed: int = 0,
    replay: str | Path | None = None,
) -> Rows:
    """Measured times of every layer on this machine's GPU or CPU (`on`: cuda or cpu), dense, masked and quantized; the
    record in `out` grows when this is repeated.

    One of `masks`, `model` and `shapes`, (m, n, k) each, says what is timed; `replay` reads a record instead. What is
    left empty is as usual on the device, as `prunesim measure --help` has it.
    """
    from measurement.rows import MEASURED_COLUMNS
    from studies.measuring import Wanted

    bundle = masks.folder if isinstance(masks, MaskBundle) else Path(masks) if masks is not None else None
    wanted = Wanted(
        bundle, str(model) if model is not None else None, [_joined(shape) for shape in shapes], on, _joined(kernels),
        dtype, _joined(tokens), pattern, runs, seed, compile, _joined(density), threads, spread,
    )  # fmt: skip
    if replay is not None:
        return Rows(wanted.replayed(str(replay), l2), MEASURED_COLUMNS)
    if out is None:
        raise UserError("measure: give `out`, the folder of the record; or `replay`, a record")
    return Rows(wanted.measured(l2, Path(out), ProgressLine(terminal_only=True)), MEASURED_COLUMNS)


def _joined(values: Any) -> str:
    return ",".join(map(str, values)) if isinstance(values, Sequence) and not isinstance(values, str) else str(values)


@typed
def report(
    *rows: Result | str | Path,
    out: str | Path,
    quality: pd.DataFrame | str | Path | None = None,
    title: str = "Speedup report",
    style: str | Path | None = None,
) -> Report:
    """Writes report.html, tables and figures of result rows (objects, files or folders; those of `inference` too) and,
    where given, perplexities into `out`. `style`: a matplotlib style file for the figures on paper."""
    from studies.reporting import make_report
    from studies.results import Found, found_of, read_result, told_columns
    from workloads.columns.quality import QUALITY_COLUMNS

    found = [
        found_of(each.frame, told_columns(set(each.frame))) if isinstance(each, Result) else read_result(Path(each))
        for each in rows
    ]
    if isinstance(quality, str | Path):
        found.append(Found(quality=read_rows(Path(quality), QUALITY_COLUMNS)))
    elif quality is not None:
        found.append(Found(quality=perplexities_of(quality)))
    return Report(Path(out), make_report(found, Path(out), title, None if style is None else Path(style)))


@typed
def run(study: str | Path, *, out: str | Path | None = None, fresh: bool = False, workers: int | None = None) -> Report:
    """Runs a study file and writes its report; steps whose inputs did not change are skipped. `workers` that
    make the results side by side, by default those of the study's [executor]; results do not depend on it."""
    from studies.running.study_run import run_study
    from studies.study import read_study

    asked = read_study(Path(study))
    folder = Path(out) if out is not None else asked.out
    return Report(folder, run_study(asked, folder, fresh, workers))
