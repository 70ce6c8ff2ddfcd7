"""Predicted GPU times beside published ones that no preset was fitted to, and what was left out of the fits."""

from statistics import median

import numpy as np

from simulator.gpu import GPUS, load_gpu, predict
from simulator.gpu.published import GEMMS, MEDIAN_SHAPES, MEDIAN_SPEEDUPS, MEDIAN_TOKENS
from simulator.gpu.spec import Error
from validation.comparison import Comparison, Point, error_of, number, percent, table

MODEL = "GPUs"


def published() -> Comparison:
    """Dense and 2:4 times and speedups of other libraries and cards."""
    points, rows = [], []
    for one in GEMMS:
        got = predict(load_gpu(one.gpu), one.m, one.n, one.k, one.dtype)
        dense, sparse = float(got.dense.time_us[0]), float(got.sparse24.time_us[0])
        cells = []
        for what, source, model in (
            ("dense us", one.dense_us, dense),
            ("2:4 us", one.sparse24_us, sparse),
            ("speedup", one.published_speedup, dense / sparse),
        ):
            cells += [number(source), number(model)] if source is not None else ["-", number(model)]
            if source is not None:
                place = f"{one.gpu} {one.dtype}, {one.m} x {one.n} x {one.k}: {what} ({one.source.split(':')[0]})"
                points.append(Point(place, number(source), number(model), error_of(model, source), one.note))
        gemm = f"{one.m} x {one.n} x {one.k}"
        rows.append((one.source.split(":")[0], f"{one.gpu} {one.dtype}", gemm, *cells, one.note or "-"))
    by_kind = {what: [p.error for p in points if f": {what} (" in p.what] for what in ("dense us", "2:4 us", "speedup")}
    medians = ", ".join(f"{what} {percent(median(map(abs, errors)))}" for what, errors in by_kind.items())
    says = (
        "None of these was fitted; most are of other libraries and cards than the fit saw, as the notes say. Median "
        f"errors: {medians}."
    )
    head = (
        "source",
        "card",
        "tokens x outputs x inputs",
        "dense us",
        "ours",
        "2:4 us",
        "ours",
        "speedup",
        "ours",
        "note",
    )
    errors = tuple(p.error for p in points)
    speedups = tuple(point for point in points if ": speedup (" in point.what)
    return Comparison(MODEL, "published times of other libraries and cards", "paper", errors, says, [table(head, rows)],
                      speedups)  # fmt: skip


def medians() -> Comparison:
    """Median 2:4 speedups of 16 linears, of which the Qwen2.5 half was in no fit."""
    n, k = np.array(MEDIAN_SHAPES).T
    rows: list[tuple[str | float, ...]] = []
    errors: list[float] = []
    for (gpu, dtype), values in MEDIAN_SPEEDUPS.items():
        for m, value in zip(MEDIAN_TOKENS, values, strict=True):
            ours = float(np.median(predict(load_gpu(gpu), m, n, k, dtype).speedup))
            errors.append(error_of(ours, value))
            rows.append((gpu, dtype, m, value, ours, percent(errors[-1], sign=True)))
    says = "SlideSparse's medians over 16 linears of Llama-3.2 and Qwen2.5; the fit saw linears of Llama-3.2 alone."
    head = ("card", "type", "tokens", "published", "ours", "error")
    return Comparison(MODEL, "median 2:4 speedups, half of the shapes unseen", "paper", tuple(errors), says,
                      [table(head, rows)])  # fmt: skip


def left_out() -> Comparison:
    """What the presets of measured cards state of points that a fit did not see."""
    rows: list[tuple[str | float, ...]] = []
    errors: list[float] = []
    for name in GPUS:
        spec = load_gpu(name)
        if not spec.coverage.card:
            continue
        for section, error in sections(spec):
            for i, tokens in enumerate(error.tokens):
                of_kind = (error.dense_median[i], error.sparse24_median[i], error.speedup_median[i])
                errors += of_kind
                within = percent(error.speedup_p90[i])
                rows.append((name, section, tokens, *(percent(each) for each in of_kind), within))
    says = (
        "Times of the best cuBLASLt and cuSPARSELt kernels (SlideSparse's measurements) of whole models or token "
        "counts that a fit was not shown: the median errors that the presets state, each of them a case here. Written "
        "into the presets when they were fitted (`benchmarks/fit_gpu.py`); the measurements do not ship."
    )
    head = ("card", "type", "tokens", "dense", "2:4", "speedup", "nine of ten speedups within")
    return Comparison(MODEL, "measured times left out of the fit", "silicon", tuple(errors), says, [table(head, rows)])


def sections(spec: object) -> list[tuple[str, Error]]:
    found = ((name, getattr(value, "error", None)) for name, value in vars(spec).items())
    return [(name, error) for name, error in found if isinstance(error, Error)]
