"""Fits the GPU presets to measured GEMMs, states their cross-validated errors, and holds them against published figures.

    python benchmarks/fit_gpu.py                  cross-validation and the published comparison of the presets as they are
    python benchmarks/fit_gpu.py --write          fits again and rewrites simulator/presets/{a100,h100,h200}*.toml
    python benchmarks/fit_gpu.py --plots DIR      residuals of the left-out points

Data: ../shared/data/gpu/dense_vs_24_gemm.csv (SlideSparse, arXiv 2603.05232; figures of the repository bcacdwk/vllmbench,
not part of this one): best cuBLASLt and cuSPARSELt time over their algorithms, back to back, warm L2. Every error printed as
"left out" is of points the fit did not see: whole models, then whole token counts. The form of the model was chosen with all
points in view, which these errors do not cover; the published figures below them were not fitted. Cross-validation takes
about 12 minutes on one core. Needs scipy.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from gpu_presets import CARDS, Card, start_spec, write_presets
from scipy.optimize import differential_evolution, least_squares, minimize

from simulator.gpu import DTYPES, GpuSpec, load_gpu, predict
from simulator.gpu.gemm import best_candidates
from simulator.gpu.prediction import machine, precision_of, tiles_of
from simulator.gpu.published import GEMMS, MEDIAN_SHAPES, MEDIAN_SPEEDUPS, MEDIAN_TOKENS

DATA = Path(__file__).parents[1].parent / "shared" / "data" / "gpu" / "dense_vs_24_gemm.csv"
# Bounds keep every parameter physical. Shared by a card's dtypes:
SHARED = {
    "memory.efficiency": (0.5, 0.95),
    "memory.l2_usable": (0.2, 1.2),
    "memory.l2_bytes_per_cycle": (20, 128),
    "power.response_us": (1, 3000),
    "dense.reduce_us": (0.5, 60),
    "sparse24.reduce_us": (0.5, 60),
}
FAMILY = {
    "launch_us": (1, 8),
    "efficiency": (0.3, 1),
    "pj_per_flop": (0.02, 3),
    "raster_tiles": (1, 64),
    "step_cycles": (10, 1200),
    "fill_cycles": (50, 8000),
}
ROBUST = 0.08  # residuals (log) well above it count linearly
SPEEDUP_WEIGHT = 0.7
LARGEST = 3e13  # MACs: cubes beyond 16384 run for seconds and measure cooling
FAMILIES = ("dense", "sparse24")
MEASURED = {"dense": "dense_us", "sparse24": "sparse24_us"}
Data = dict[str, pd.DataFrame]  # by dtype


def limits(names: dict[str, tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.log(np.array(list(names.values()), dtype=float)).T
    return low + 1e-6, high - 1e-6


class Fit:
    """The parameters of one card as a vector of logarithms: SHARED, then FAMILY for each dtype and kernel family."""

    def __init__(self, card: Card) -> None:
        self.base = start_spec(card)
        self.kernels = [(dtype, family) for dtype in card.dtypes for family in FAMILIES]
        shared, family = limits(SHARED), limits(FAMILY)
        self.low = np.concatenate([shared[0], *[family[0]] * len(self.kernels)])
        self.high = np.concatenate([shared[1], *[family[1]] * len(self.kernels)])

    def part(self, number: int) -> slice:
        start = len(SHARED) + number * len(FAMILY)
        return slice(start, start + len(FAMILY))

    def vector(self, spec: GpuSpec) -> np.ndarray:
        values = [getattr(getattr(spec, key.split(".")[0]), key.split(".")[1]) for key in list(SHARED)[:4]]
        first = precision_of(spec, self.kernels[0][0])
        values += [first.dense.reduce_us, first.sparse24.reduce_us]
        for dtype, family in self.kernels:
            values += [getattr(getattr(precision_of(spec, dtype), family), name) for name in FAMILY]
        return np.clip(np.log(values), self.low, self.high)

    def spec(self, vector: np.ndarray) -> GpuSpec:
        values = [float(f"{value:.4g}") for value in np.exp(vector)]
        efficiency, usable, per_cycle, response, *reduce = values[: len(SHARED)]
        memory = dataclasses.replace(
            self.base.memory, efficiency=efficiency, l2_usable=usable, l2_bytes_per_cycle=per_cycle
        )
        changes = {"memory": memory, "power": dataclasses.replace(self.base.power, response_us=response)}
        for number, (dtype, family) in enumerate(self.kernels):
            field = "fp16" if dtype == "bf16" else dtype
            precision = changes.get(field, getattr(self.base, field))
            fitted = dict(zip(FAMILY, values[self.part(number)], strict=True))
            kernel = dataclasses.replace(getattr(precision, family), **fitted, reduce_us=reduce[FAMILIES.index(family)])
            changes[field] = dataclasses.replace(precision, **{family: kernel})
        return dataclasses.replace(self.base, **changes)


def log_errors(spec: GpuSpec, dtype: str, family: str, rows: pd.DataFrame) -> np.ndarray:
    sparse = family == "sparse24"
    kernel = machine(spec, precision_of(spec, dtype), sparse)
    sizes = [rows[name].to_numpy() for name in ("m", "n", "k")]
    numbers, _ = best_candidates(*sizes, kernel, tiles_of(spec, sparse))
    return np.log(numbers[:, 0] / rows[MEASURED[family]].to_numpy())


def soft_sum(errors: np.ndarray) -> float:
    """The soft-L1 loss of scipy's least_squares."""
    return float(np.sum(ROBUST**2 * (np.sqrt(1 + (errors / ROBUST) ** 2) - 1)))


def fit(card: Card, data: Data, rounds: int = 2, seed: int = 0) -> GpuSpec:
    """Kernel by kernel with the shared parameters held (differential evolution), then those, then all together with the
    speedup as a further residual; robust loss in log space throughout."""
    this = Fit(card)
    x = this.vector(this.base)
    head = slice(0, len(SHARED))

    def with_part(part: slice, values: np.ndarray) -> GpuSpec:
        changed = x.copy()
        changed[part] = values
        return this.spec(changed)

    def everything(vector: np.ndarray) -> np.ndarray:
        spec = this.spec(np.clip(vector, this.low, this.high))
        times = {kernel: log_errors(spec, *kernel, data[kernel[0]]) for kernel in this.kernels}
        speedups = [SPEEDUP_WEIGHT * (times[dtype, "dense"] - times[dtype, "sparse24"]) for dtype in card.dtypes]
        return np.concatenate([*times.values(), *speedups])

    for _ in range(rounds):
        for number, (dtype, family) in enumerate(this.kernels):
            part = this.part(number)
            found = differential_evolution(
                lambda values, part=part, dtype=dtype, family=family: soft_sum(
                    log_errors(with_part(part, values), dtype, family, data[dtype])
                ),
                list(zip(this.low[part], this.high[part], strict=True)),
                x0=x[part], popsize=8, maxiter=25, seed=seed, polish=False, init="sobol",
            )  # fmt: skip
            x[part] = found.x
        found = minimize(
            lambda values: soft_sum(everything(np.concatenate([values, x[len(SHARED) :]]))),
            x[head], method="Nelder-Mead", bounds=list(zip(this.low[head], this.high[head], strict=True)),
            options={"maxfev": 200},
        )  # fmt: skip
        x[head] = found.x
    last = least_squares(
        everything, x, bounds=(this.low, this.high), loss="soft_l1", f_scale=ROBUST, diff_step=5e-3, x_scale=0.3,
        max_nfev=40,
    )  # fmt: skip
    return this.spec(last.x)


def folds(data: Data) -> Iterator[tuple[str, Callable[[pd.DataFrame], pd.Series]]]:
    """Whole models, then whole token counts (every fourth together)."""
    for model in sorted({name for rows in data.values() for name in rows["model"]}):
        yield "models", lambda rows, model=model: rows["model"] == model
    tokens = sorted({m for rows in data.values() for m in rows["m"]})
    for first in range(4):
        yield "sizes", lambda rows, first=first: rows["m"].isin(tokens[first::4])


def cross_validate(card: Card, data: Data) -> pd.DataFrame:
    """The rows of `data`, once per kind of fold, with predictions of fits that had not seen them."""
    found = []
    for kind, left_out in folds(data):
        spec = fit(card, {dtype: rows[~left_out(rows)] for dtype, rows in data.items()})
        for dtype, rows in data.items():
            held = rows[left_out(rows)]
            found.append(with_predictions(held, spec, dtype).assign(left_out=kind))
        print(f"  {card.preset}: one fold of {kind} done", file=sys.stderr, flush=True)
    return pd.concat(found)


def with_predictions(rows: pd.DataFrame, spec: GpuSpec, dtype: str) -> pd.DataFrame:
    got = predict(spec, rows["m"].to_numpy(), rows["n"].to_numpy(), rows["k"].to_numpy(), dtype)
    return rows.assign(predicted_dense_us=got.dense.time_us, predicted_sparse24_us=got.sparse24.time_us)


def error_table(rows: pd.DataFrame) -> dict[str, float]:
    dense = (rows["predicted_dense_us"] / rows["dense_us"] - 1).abs()
    sparse = (rows["predicted_sparse24_us"] / rows["sparse24_us"] - 1).abs()
    measured = rows["dense_us"] / rows["sparse24_us"]
    predicted = rows["predicted_dense_us"] / rows["predicted_sparse24_us"]
    speedup = (predicted / measured - 1).abs()
    clear = (measured < 0.95) | (measured > 1.05)
    both = pd.concat([dense, sparse])
    return {
        "points": len(rows),
        "dense_median": dense.median(), "dense_p90": dense.quantile(0.9),
        "sparse24_median": sparse.median(), "sparse24_p90": sparse.quantile(0.9),
        "time_median": both.median(), "time_p90": both.quantile(0.9),
        "speedup_median": speedup.median(), "speedup_p90": speedup.quantile(0.9),
        "sign_right": ((predicted > 1) == (measured > 1))[clear].mean(),
    }  # fmt: skip


def load_data(card: Card) -> Data:
    rows = pd.read_csv(DATA)
    rows = rows[(rows["gpu"] == card.measured) & (rows["m"] * rows["n"] * rows["k"] < LARGEST)]
    return {dtype: rows[rows["dtype"] == dtype] for dtype in card.dtypes}


def published_table() -> pd.DataFrame:
    """Independent figures against the presets: percent errors."""
    rows = []
    for one in GEMMS:
        got = predict(load_gpu(one.gpu), one.m, one.n, one.k, one.dtype)
        dense, sparse = got.dense.time_us[0], got.sparse24.time_us[0]
        rows.append(
            {
                "source": one.source.split(":")[0], "gpu": one.gpu, "dtype": one.dtype, "m": one.m, "n": one.n, "k": one.k,
                "dense_us": one.dense_us, "predicted": dense, "error_%": percent(dense, one.dense_us),
                "sparse24_us": one.sparse24_us, "predicted_": sparse, "error_%_": percent(sparse, one.sparse24_us),
                "speedup": one.published_speedup, "predicted__": dense / sparse,
                "error_%__": percent(dense / sparse, one.published_speedup), "note": one.note,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def percent(predicted: float, published: float | None) -> float:
    return float("nan") if published is None else 100 * (predicted / published - 1)


def median_speedups() -> pd.DataFrame:
    n, k = np.array(MEDIAN_SHAPES).T
    rows = []
    for (gpu, dtype), published in MEDIAN_SPEEDUPS.items():
        for m, value in zip(MEDIAN_TOKENS, published, strict=True):
            predicted = float(np.median(predict(load_gpu(gpu), m, n, k, dtype).speedup))
            rows.append({"gpu": gpu, "dtype": dtype, "m": m, "published": value, "predicted": predicted})
    return pd.DataFrame(rows)


def transfer_table(fits: dict[str, GpuSpec]) -> pd.DataFrame:
    """One card's measurements predicted from its own data sheet and the other generation's fitted efficiencies."""
    from gpu_presets import transferred

    rows = []
    for card in CARDS:
        for other in CARDS:
            if other is not card:
                spec = transferred(fits[other.preset], other, card)
                for dtype, data in load_data(card).items():
                    rows.append(
                        {"measured": card.preset, "dtype": dtype, "efficiencies of": other.preset}
                        | error_table(with_predictions(data, spec, dtype))
                    )
    return pd.DataFrame(rows)


def plot_residuals(left_out: pd.DataFrame, folder: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    for (gpu, dtype), rows in left_out.groupby(["gpu", "dtype"]):
        figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
        for axis, family in zip(axes, FAMILIES, strict=True):
            for kind, some in rows.groupby("left_out"):
                ratio = some[f"predicted_{MEASURED[family]}"] / some[MEASURED[family]]
                axis.semilogx(some[MEASURED[family]], ratio, ".", markersize=4, label=f"{kind} left out")
            axis.axhline(1, color="0.6", linewidth=0.8)
            axis.set(title=f"{gpu}, {dtype}, {family}", xlabel="measured (us)", ylim=(0.5, 1.6))
        axes[0].set_ylabel("predicted / measured")
        axes[0].legend(frameon=False, fontsize=8)
        figure.tight_layout()
        figure.savefig(folder / f"residuals-{str(gpu).split()[1].lower()}-{dtype}.svg")
        plt.close(figure)


def show(title: str, table: pd.DataFrame) -> None:
    print(
        f"\n{title}\n{table.to_string(index=False, float_format=lambda value: f'{value:.3g}', na_rep='-')}", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Cross-validates and fits the GPU presets.")
    parser.add_argument("--write", action="store_true", help="fit on all points and rewrite the presets")
    parser.add_argument("--published", action="store_true", help="only the comparison with published figures")
    parser.add_argument("--plots", type=Path, help="folder for residual plots")
    given = parser.parse_args()
    if not given.published:
        if not DATA.exists():
            sys.exit(f"{DATA} is not there: only --published runs without it")
        left_out = pd.concat([cross_validate(card, load_data(card)) for card in CARDS])
        errors = pd.DataFrame(
            [
                {"gpu": gpu, "dtype": dtype, "left_out": kind} | error_table(rows)
                for (gpu, dtype, kind), rows in left_out.groupby(["gpu", "dtype", "left_out"])
            ]
            + [
                {"gpu": "all", "dtype": "all", "left_out": kind} | error_table(rows)
                for kind, rows in left_out.groupby("left_out")
            ]
        )
        show("Errors of points left out of the fit (never the fitting error)", errors)
        if given.plots is not None:
            plot_residuals(left_out, given.plots)
        if given.write:
            fits = {card.preset: fit(card, load_data(card), rounds=3) for card in CARDS}
            show("Efficiencies of the other generation (what a card without data risks)", transfer_table(fits))
            write_presets(fits, errors)
    show("Published, independent (none of it was fitted)", published_table())
    show("Published, half independent: median speedup of 16 linears, the Qwen2.5 half unseen", median_speedups())


if __name__ == "__main__":
    assert set(DTYPES) >= {dtype for card in CARDS for dtype in card.dtypes}
    main()
