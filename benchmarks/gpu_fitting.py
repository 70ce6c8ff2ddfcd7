"""Fits the kernels of one card and number type to measured times, and the ways of leaving points out of a fit."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.optimize import OptimizeResult, least_squares

from benchmarks.gpu_presets import Card, start_spec
from simulator.gpu import GpuSpec
from simulator.gpu.kernel_times import best_candidates
from simulator.gpu.prediction import rates_of, sparse24_tokens, tiles_of
from simulator.gpu.spec import KernelFamily

# Bounds keep every parameter physical, the start is what a fit is drawn to where data say nothing.
PARAMETERS = {
    # name: lowest, start, highest
    "launch_us": (1, 4, 12),
    "efficiency": (0.05, 0.9, 1),
    "small_tile": (0.001, 0.05, 1),
    "pj_per_flop": (0.02, 1, 3),
    "raster_tiles": (1, 2.5, 64),
    "step_cycles": (10, 300, 1500),
    "fill_cycles": (50, 1000, 9000),
    "reduce_us": (0.3, 6, 60),
    "memory_efficiency": (0.3, 0.85, 0.97),
    "l2_bytes_per_cycle": (16, 60, 160),
    "l2_usable": (0.1, 0.7, 1.3),
    "response_us": (1, 80, 3000),
}
SHARED = ("l2_usable", "response_us")  # of dense and 2:4 kernels
ROBUST = 0.08  # residuals (log) well above it count linearly
SPEEDUP_WEIGHT = 0.7  # of the speedup's residual beside those of the two times
PULL = 0.02  # towards the start: in log units, against residuals in log units
STARTS = 4
FINISHED = 2  # of them, the best after a few steps
FAMILIES = ("dense", "sparse24")
MEASURED = {"dense": "dense_us", "sparse24": "sparse24_us"}
SIZES = ("m", "n", "k")


class Fit:
    """The parameters of both kernel families of one section of one card as a vector of logarithms, shared ones once."""

    def __init__(self, card: Card, section: str, rows: pd.DataFrame) -> None:
        self.base, self.section = start_spec(card), section
        count = len(PARAMETERS)
        shared = [list(PARAMETERS).index(name) for name in SHARED]
        own = np.setdiff1d(np.arange(count), shared)
        second = np.empty(count, dtype=np.int64)
        second[shared], second[own] = shared, count + np.arange(len(own))
        self.places = {"dense": np.arange(count), "sparse24": second}
        low, start, high = np.log(np.array(list(PARAMETERS.values()), dtype=float)).T
        self.low, self.start, self.high = (np.concatenate([side, side[own]]) for side in (low, start, high))
        self.sizes = [rows[name].to_numpy() for name in SIZES]
        self.measured = {family: np.log(rows[column].to_numpy()) for family, column in MEASURED.items()}
        self.tiles = {family: tiles_of(self.base, family == "sparse24") for family in FAMILIES}

    def family(self, vector: np.ndarray, name: str) -> KernelFamily:
        values = np.exp(vector[self.places[name]])
        return KernelFamily(**{key: float(f"{value:.4g}") for key, value in zip(PARAMETERS, values, strict=True)})

    def spec(self, vector: np.ndarray) -> GpuSpec:
        precision = getattr(self.base, self.section)
        families = {name: self.family(vector, name) for name in FAMILIES}
        return dataclasses.replace(self.base, **{self.section: dataclasses.replace(precision, **families)})

    def log_errors(self, vector: np.ndarray, family: str) -> np.ndarray:
        sparse = family == "sparse24"
        spec = self.spec(vector)
        precision = getattr(spec, self.section)
        m, n, k = self.sizes
        m = sparse24_tokens(m, precision) if sparse else m
        numbers, _ = best_candidates(m, n, k, rates_of(spec, precision, sparse), self.tiles[family])
        return np.log(numbers[:, 0]) - self.measured[family]

    def residuals(self, vector: np.ndarray, errors: list[np.ndarray]) -> np.ndarray:
        dense, sparse = errors
        return np.concatenate([dense, sparse, SPEEDUP_WEIGHT * (dense - sparse), PULL * (vector - self.start)])

    def slopes(self, vector: np.ndarray, step: float) -> np.ndarray:
        """Differences forward, or backward at a bound; only the kernels that a parameter belongs to are run again."""
        base = [self.log_errors(vector, family) for family in FAMILIES]
        at = self.residuals(vector, base)
        columns = []
        for j in range(len(vector)):
            moved = vector.copy()
            by = step if vector[j] + step < self.high[j] else -step
            moved[j] += by
            errors = [
                self.log_errors(moved, family) if j in self.places[family] else known
                for family, known in zip(FAMILIES, base, strict=True)
            ]
            columns.append((self.residuals(moved, errors) - at) / by)
        return np.array(columns).T

    def solve(self, start: np.ndarray, evaluations: int, step: float) -> OptimizeResult:
        return least_squares(
            lambda x: self.residuals(x, [self.log_errors(x, family) for family in FAMILIES]),
            np.clip(start, self.low + 1e-6, self.high - 1e-6),
            jac=lambda x: self.slopes(x, step),
            bounds=(self.low, self.high), loss="soft_l1", f_scale=ROBUST, x_scale=0.3, max_nfev=evaluations,
        )  # fmt: skip


def fit(card: Card, section: str, rows: pd.DataFrame, starts: int = STARTS, evaluations: int = 15) -> GpuSpec:
    """The card with one section fitted: robust least squares in log space, from `starts` points, the most promising
    finished."""
    this = Fit(card, section, rows)
    rng = np.random.default_rng(0)
    points = [this.start] + [this.start + rng.normal(0, 0.5, len(this.start)) for _ in range(starts - 1)]
    begun = sorted((this.solve(point, 8, 1e-2) for point in points), key=lambda found: found.cost)
    ended = [this.solve(found.x, evaluations, 5e-3) for found in begun[:FINISHED]]
    return this.spec(min(ended, key=lambda found: found.cost).x)


def folds(rows: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """(kind, which rows to leave out): whole models, then whole token counts (every fourth together)."""
    for model in sorted(set(rows["model"])):
        yield "models", rows["model"] == model
    tokens = sorted(set(rows["m"]))
    for first in range(4):
        yield "sizes", rows["m"].isin(tokens[first::4])


def edges(rows: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """(kind, which rows to leave out): an end of the data, so that what is left out lies octaves outside the rest."""
    largest = rows["m"].max()
    yield "few tokens", rows["m"] <= 128
    yield "few tokens", rows["m"] <= 512
    yield "many tokens", rows["m"] > largest // 8
    yield "many features", rows["n"] > 5120
    yield "many inputs", rows["k"] > 3072
