"""Fits a kernel's parameters, leaves points out, and turns residuals of points left out into a stated error."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from benchmarks.operator_kernels import Bounds, Case
from simulator.gpu.operator_parameters import REGIMES, Data, Residuals
from simulator.gpu.operators.timing import outside, regimes_of

ROBUST = 0.08  # residuals (log) well above it count linearly
PULL = 0.03  # towards the start: in log units, against residuals in log units
STARTS = 2
FEWEST = 8  # points of a regime that have an error of their own
NEAR = 1.0  # octaves outside the fitted points up to which a point left out counts as inside
LEAST_GROWTH, MOST_GROWTH = 0.02, 0.2  # of the error an octave, where data say less, or are few and say more: assumed


def solve(case: Case, rows: pd.DataFrame, starts: int = STARTS) -> dict[str, float]:
    """Robust least squares on ln(predicted / measured), over the logarithms of the parameters."""
    names = list(case.bounds)
    low, start, high = np.log(np.array([case.bounds[name] for name in names], dtype=float)).T
    measured = np.log(rows["latency_us"].to_numpy())
    rng = np.random.default_rng(0)
    linear = case.kind == "linear"  # its minima are its tiles' steps, and differences want a longer step

    def residuals(vector: np.ndarray) -> np.ndarray:
        total = case.formula(case.made(values_of(names, vector)), rows).total
        return np.concatenate([np.log(total) - measured, (PULL + 0.02 * linear) * (vector - start)])

    best = None
    for i in range(1 if linear else starts):
        begun = np.clip(start + (i > 0) * rng.normal(0, 0.4, len(start)), low + 1e-6, high - 1e-6)
        found = least_squares(
            residuals, begun, bounds=(low, high), loss="soft_l1", f_scale=ROBUST, max_nfev=25 if linear else 60,
            x_scale=0.3 if linear else 1.0, diff_step=5e-3 if linear else None,
        )  # fmt: skip
        if best is None or found.cost < best.cost:
            best = found
    assert best is not None
    return {name: float(f"{value:.4g}") for name, value in values_of(names, best.x).items()}


def values_of(names: list[str], vector: np.ndarray) -> dict[str, float]:
    return dict(zip(names, np.exp(vector).tolist(), strict=True))


def folds(rows: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    """(kind, which rows to leave out): whole geometries or models, then every sixth shape."""
    for group in sorted(set(rows["group"])):
        left = (rows["group"] == group).to_numpy()
        if not left.all():
            yield "groups", left
    for i in range(6):
        yield "shapes", np.arange(len(rows)) % 6 == i


def edges(rows: pd.DataFrame, names: tuple[str, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """An end of the data: the third of the points beyond a value."""
    for name in names:
        values = rows[name].to_numpy(dtype=float)
        for left in (values > np.quantile(values, 0.67), values < np.quantile(values, 0.33)):
            if 0 < left.sum() < len(rows) - 4:
                yield f"end of {name}", left


def ranges_of(case: Case, rows: pd.DataFrame) -> Data:
    """To four figures, outwards not at all: the ends are whole numbers or ratios of them."""
    return Data(case.card, {name: (float(rows[name].min()), float(rows[name].max())) for name in case.quantities})


def left_out(case: Case, kind: str, left: np.ndarray) -> pd.DataFrame:
    """The rows left out with their predictions by a fit to the others, the regime, and octaves outside those."""
    fitted, held = case.rows[~left], case.rows[left]
    parts = case.formula(case.made(solve(case, fitted, starts=1)), held)
    octaves, _ = outside(ranges_of(case, fitted), {name: held[name].to_numpy(float) for name in case.quantities})
    base = baseline(case, ~left)[left]
    regimes = np.array(REGIMES)[regimes_of(parts)]
    return held.assign(predicted_us=parts.total, regime=regimes, octaves=octaves, left_out=kind, baseline_us=base)


def baseline(case: Case, fitted: np.ndarray) -> np.ndarray:
    """(rows,) of t0 + max(FLOP / (e_c peak), bytes / (e_m bandwidth)), prefill with the ramp S / (S + a): the four
    numbers of a textbook, fitted to the same rows."""
    measured = np.log(case.rows["latency_us"].to_numpy())
    ramp = len(case.ramp) > 0

    def times(vector: np.ndarray) -> np.ndarray:
        fixed, memory, compute, overhead = np.exp(vector)
        slow = case.ramp / (case.ramp + overhead) if ramp else 1.0
        return fixed + np.maximum(case.flops / (case.peak * compute * slow), case.moved / (case.bandwidth * memory))

    bounds: Bounds = {"t0": (0.3, 10, 80), "e_m": (0.05, 0.7, 1), "e_c": (0.05, 0.6, 1), "a": (1, 500, 4000)}
    low, start, high = np.log(np.array(list(bounds.values()), dtype=float)).T
    found = least_squares(
        lambda x: np.concatenate([(np.log(times(x)) - measured)[fitted], 0.01 * (x - start)]), start,
        bounds=(low, high), loss="soft_l1", f_scale=ROBUST,
    )  # fmt: skip
    return times(found.x)


def log_error(rows: pd.DataFrame, name: str = "predicted_us") -> np.ndarray:
    return np.abs(np.log(rows[name] / rows["latency_us"])).to_numpy()


def quantile(rows: pd.DataFrame, share: float) -> float:
    """The larger of the ways of leaving out."""
    return max(float(np.quantile(log_error(part), share)) for _, part in rows.groupby("left_out"))


def residuals_of(case: Case, inner: pd.DataFrame, outer: pd.DataFrame) -> Residuals:
    """inner: cross-validation; outer: ends left out. Regimes with few points share the error of all."""
    known: list[Any] = [regime for regime in REGIMES if (inner["regime"] == regime).any()]
    near = inner[inner["octaves"] <= NEAR]
    parts = [near[near["regime"] == regime] for regime in known]
    parts = [part if len(part) >= FEWEST else near for part in parts]
    p90 = tuple(round(max(quantile(part, 0.9), 0.01), 3) for part in parts)
    far = pd.concat([outer[outer["octaves"] > 0], inner[inner["octaves"] > NEAR]])
    growth = LEAST_GROWTH
    if len(far):
        inside = np.array([p90[known.index(regime)] if regime in known else max(p90) for regime in far["regime"]])
        excess = (log_error(far) - inside) / far["octaves"].to_numpy()
        growth = min(MOST_GROWTH, max(LEAST_GROWTH, float(np.quantile(excess, 0.9))))
    medians = tuple(round(max(quantile(part, 0.5), 0.003), 3) for part in parts)
    basis = f"cross-validated on {case.card}: whole groups or shapes left out; beyond the data: ends left out"
    return Residuals(tuple(known), medians, p90, round(growth, 3), basis)


def study(case: Case) -> tuple[dict[str, float], Residuals, pd.DataFrame]:
    """(parameters, stated error, rows left out with their predictions)."""
    inner = pd.concat([left_out(case, kind, left) for kind, left in folds(case.rows)])
    outer = pd.concat([left_out(case, kind, left) for kind, left in edges(case.rows, case.edges)])
    return solve(case, case.rows), residuals_of(case, inner, outer), inner
