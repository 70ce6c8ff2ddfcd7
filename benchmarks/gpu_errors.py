"""From residuals of points left out to what a preset states: errors by tokens, what an octave outside the data adds."""

from typing import Any

import numpy as np
import pandas as pd

from simulator.gpu.confidence import outside
from simulator.gpu.spec import Coverage, Error

NODES = (64, 256, 1024, 4096, 16384)
WINDOW = 1.01  # octaves around a node whose residuals count for it
WHAT = ("dense", "sparse24", "speedup")
# octaves outside the fitted points up to which a point left out counts as inside: the distance between their sizes
NEAR = 1.0
LEAST_GROWTH = 0.02  # of the error an octave, where the data show less: assumed


def log_residuals(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """ln(predicted / measured); rows: measured and predicted_ columns of both times."""
    dense = np.log(rows["predicted_dense_us"] / rows["dense_us"]).to_numpy()
    sparse = np.log(rows["predicted_sparse24_us"] / rows["sparse24_us"]).to_numpy()
    return {"dense": dense, "sparse24": sparse, "speedup": dense - sparse}


def coverage_of(card: str, rows: pd.DataFrame) -> Coverage:
    m, n, k = (rows[name].to_numpy(dtype=float) for name in ("m", "n", "k"))
    found = {"tokens": m, "features": n, "inputs": k, "features_per_input": n / k, "tokens_per_feature": m / n,
             "tokens_per_input": m / k}  # fmt: skip
    return Coverage(card, **{name: (float(values.min()), float(values.max())) for name, values in found.items()})


def quantile_near(rows: pd.DataFrame, values: np.ndarray, tokens: int, share: float) -> float:
    """The larger of the kinds of folds."""
    near = (np.abs(np.log2(rows["m"]) - np.log2(tokens)) <= WINDOW).to_numpy()
    kinds = rows["left_out"].to_numpy()
    return max(float(np.quantile(np.abs(values[near & (kinds == kind)]), share)) for kind in np.unique(kinds))


def error_of(left_out: pd.DataFrame, at_edges: pd.DataFrame, basis: str) -> Error:
    """left_out: of cross-validation; at_edges: of fits without an end of the data; both with `octaves` outside the
    fitted points. Points far outside, as small cubes are once all cubes are left out, count for the growth by octaves
    alone."""
    far = left_out["octaves"] > NEAR
    at_edges = pd.concat([at_edges[at_edges["octaves"] > 0], left_out[far]])
    left_out = left_out[~far]
    residuals = log_residuals(left_out)
    curves: dict[str, Any] = {
        f"{what}_{name}": tuple(round(quantile_near(left_out, residuals[what], node, share), 3) for node in NODES)
        for what in WHAT
        for name, share in (("median", 0.5), ("p90", 0.9))
    }
    growth = {what: octave_growth(at_edges, what, curves[f"{what}_p90"]) for what in WHAT}
    octaves: dict[str, Any] = {f"{what}_octave": value for what, value in growth.items()}
    return Error(NODES, **curves, **octaves, basis=basis)


def octave_growth(rows: pd.DataFrame, what: str, p90: tuple[float, ...]) -> float:
    """The least growth an octave with which nine of ten of the points outside lie within the error stated for their
    tokens."""
    inside = np.interp(np.log2(rows["m"]), np.log2(NODES), p90)
    excess = (np.abs(log_residuals(rows)[what]) - inside) / rows["octaves"].to_numpy()
    return round(max(LEAST_GROWTH, float(np.quantile(excess, 0.9))), 3)


def octaves_outside(fitted: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
    m, n, k = (rows[name].to_numpy(dtype=np.int64) for name in ("m", "n", "k"))
    return outside(coverage_of("", fitted), m, n, k)[0]


def error_table(rows: pd.DataFrame) -> dict[str, float]:
    found = {what: pd.Series(np.abs(np.expm1(values))) for what, values in log_residuals(rows).items()}
    both = pd.concat([found["dense"], found["sparse24"]])
    measured = rows["dense_us"] / rows["sparse24_us"]
    predicted = rows["predicted_dense_us"] / rows["predicted_sparse24_us"]
    clear = (measured < 0.95) | (measured > 1.05)
    return {
        "points": len(rows),
        "time_median": both.median(), "time_p90": both.quantile(0.9),
        "dense_median": found["dense"].median(), "sparse24_median": found["sparse24"].median(),
        "speedup_median": found["speedup"].median(), "speedup_p90": found["speedup"].quantile(0.9),
        "sign_right": ((predicted > 1) == (measured > 1))[clear].mean(),
    }  # fmt: skip


def verdict_table(rows: pd.DataFrame, band: np.ndarray) -> dict[str, float]:
    """Of speedups with the band as rows get it: the share within, the share with a verdict, and of those the share that
    is right."""
    measured = rows["dense_us"] / rows["sparse24_us"]
    predicted = rows["predicted_dense_us"] / rows["predicted_sparse24_us"]
    given = (predicted > 1 + band) | (predicted * (1 + band) < 1)
    within = np.exp(np.abs(np.log(predicted / measured))) - 1 <= band
    return {
        "within": within.mean(),
        "verdict": given.mean(),
        "right": ((predicted > 1) == (measured > 1))[given].mean(),
    }
