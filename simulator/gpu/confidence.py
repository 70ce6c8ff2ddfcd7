"""How far a prediction may be off, and whether data covers it."""

import numpy as np

from simulator.gpu.spec import Coverage, Error

OF = {"tokens": "m", "features": "n", "inputs": "k", "features_per_input": "n/k", "tokens_per_feature": "m/n",
      "tokens_per_input": "m/k"}  # fmt: skip


def outside(coverage: Coverage, m: np.ndarray, n: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(shapes,) octaves by which the quantity that lies farthest outside the data does so, 0 inside; and what lies
    outside, in words, "" inside. Bounds on sizes and on their ratios enclose the data about as closely as its convex
    hull in log space."""
    values = {"tokens": m, "features": n, "inputs": k, "features_per_input": n / k, "tokens_per_feature": m / n,
              "tokens_per_input": m / k}  # fmt: skip
    octaves = np.zeros(m.shape)
    said: list[list[str]] = [[] for _ in range(len(m))]
    for name, value in values.items():
        low, high = getattr(coverage, name)
        below, above = np.log2(low / value), np.log2(value / high)
        octaves = np.maximum(octaves, np.maximum(below, above))
        for i in np.flatnonzero(below > 1e-9):
            said[i].append(f"{OF[name]} {short(value[i])} below {short(low)}")
        for i in np.flatnonzero(above > 1e-9):
            said[i].append(f"{OF[name]} {short(value[i])} above {short(high)}")
    return octaves, np.array([", ".join(parts) for parts in said] or [], dtype=object)


def short(value: float) -> str:
    """37888, 10.6, 1/256: ratios below 1 as one over a number."""
    return (
        f"{value:.0f}"
        if value >= 100 or value == int(value)
        else f"{value:.3g}"
        if value >= 1
        else f"1/{1 / value:.3g}"
    )


def extrapolated(coverage: Coverage, outside_data: np.ndarray) -> np.ndarray:
    """(shapes,) "" where a measured card's data covers the GEMM, else why the prediction is extrapolated."""
    if coverage.card:
        return outside_data
    return np.array([f"card as set not measured{'; ' if part else ''}{part}" for part in outside_data], dtype=object)


def error_p90(error: Error, what: str, m: np.ndarray, octaves: np.ndarray) -> np.ndarray:
    """(shapes,) share that nine of ten predictions stay within, both ways: predicted / (1 + e) <= true <= predicted *
    (1 + e).

    what: dense, sparse24 or speedup. Between the token counts of the error it is interpolated over log m; each octave
    outside the data adds to it.
    """
    logs = np.interp(np.log2(m), np.log2(error.tokens), getattr(error, f"{what}_p90"))
    return np.expm1(logs + octaves * getattr(error, f"{what}_octave"))


def stated(error: Error) -> str:
    """ "12, 10, 15 % (dense time, 2:4 time, speedup) at 64 tokens, ..."."""
    curves = [
        [100 * np.expm1(value) for value in getattr(error, f"{what}_p90")] for what in ("dense", "sparse24", "speedup")
    ]
    parts = [
        f"{', '.join(f'{value:.0f}' for value in at)} % at {t} tokens"
        for t, *at in zip(error.tokens, *curves, strict=True)
    ]
    return f"(dense time, 2:4 time, speedup) {'; '.join(parts)}"
