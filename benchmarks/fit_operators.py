"""Fits the operators of the GPU presets to measured kernels and says what they are worth on points left out.

    python benchmarks/fit_operators.py                    cross-validation of all kernels, beside a four-number baseline
    python benchmarks/fit_operators.py --only decode moe  of some kinds
    python benchmarks/fit_operators.py --write            fits again and rewrites the section `operators` of the presets

Data: ../shared/data/performance (not part of this repository). Left out: whole attention geometries, models, weight
shapes or GPU counts ("groups"), and every sixth shape ("shapes"); for the growth of the error outside the data, its
ends. The form of each formula was chosen by the same cross-validation, so the figures flatter a little. About three
minutes on one core. Needs scipy.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.operator_data import ELEMENTWISE, FOLDER
from benchmarks.operator_fitting import ranges_of, study
from benchmarks.operator_kernels import Case, cases
from benchmarks.operator_presets import Fitted, write_operators
from simulator.gpu.operator_parameters import KINDS
from validation.comparisons.gpu_operators import FIGURES

EMPTY_KERNEL_US = 4.0  # what rmsnorm of one short row takes on this card


def figures(rows: pd.DataFrame) -> dict[str, float]:
    ours = np.abs(rows["predicted_us"] / rows["latency_us"] - 1)
    theirs = np.abs(rows["baseline_us"] / rows["latency_us"] - 1)
    return {
        "points": len(rows), "median": 100 * ours.median(), "mape": 100 * ours.mean(), "p90": 100 * ours.quantile(0.9),
        "baseline_median": 100 * theirs.median(), "baseline_mape": 100 * theirs.mean(),
    }  # fmt: skip


def table_by(inner: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        [dict(zip(keys, key, strict=True)) | figures(part) for key, part in inner.groupby(keys, sort=False)]
    )


def show(title: str, table: pd.DataFrame) -> None:
    print(f"\n{title}\n{table.to_string(index=False, float_format=lambda value: f'{value:.1f}')}", flush=True)


def named(case: Case, inner: pd.DataFrame) -> pd.DataFrame:
    inner = inner.drop(columns=["kind", "name"], errors="ignore")
    return inner.assign(preset=case.preset, kind=case.kind, kernel=case.name)


def host_part(case: Case, values: dict[str, float]) -> dict[str, float]:
    """Of kernels timed by the host's clock: what their fixed time has beyond an empty kernel's."""
    by_host = case.kind == "elementwise" and case.name not in ELEMENTWISE
    return {"host_us": round(values["fixed_us"] - EMPTY_KERNEL_US, 3)} if by_host else {}


def write_figures(tables: dict[str, pd.DataFrame]) -> None:
    """Those of kinds that were fitted now in place of what the file has of them."""
    found = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    for name, table in tables.items():
        kept = [row for row in found.get(name, []) if row["kind"] not in set(table["kind"])]
        rows = [*kept, *table.round(1).to_dict(orient="records")]
        found[name] = sorted(rows, key=lambda row: (KINDS.index(row["kind"]), row.get("preset", "")))
    FIGURES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Cross-validates and fits the operators of the GPU presets.")
    parser.add_argument("--write", action="store_true", help="rewrite the presets")
    parser.add_argument("--only", nargs="+", choices=KINDS, help="these kinds alone")
    parser.add_argument("--out", type=Path, help="write the points left out to this CSV file")
    given = parser.parse_args()
    if not FOLDER.exists():
        sys.exit(f"{FOLDER} is not there")
    fitted: Fitted = {}
    parts = []
    for case in cases():
        if given.only and case.kind not in given.only:
            continue
        started = time.monotonic()
        values, error, inner = study(case)
        kernel = case.made(values | host_part(case, values), ranges_of(case, case.rows), error)
        fitted.setdefault((case.preset, case.kind), {})[case.name] = kernel
        parts.append(named(case, inner))
        said = " ".join(f"{name}={value:g}" for name, value in values.items())
        print(f"{case.preset} {case.kind} {case.name}: {said} ({time.monotonic() - started:.0f} s)", file=sys.stderr)
    inner = pd.concat(parts)
    tables = {
        "left_out": table_by(inner, ["preset", "kind", "kernel", "left_out"]),
        "regime": table_by(inner, ["preset", "kind", "kernel", "regime"]),
        "kind": table_by(inner, ["kind", "left_out"]),
    }
    for name, found in tables.items():
        show(f"Points left out of the fit (percent), by {name}", found)
    if given.out:
        inner.to_csv(given.out, index=False)
    if given.write:
        write_operators(fitted)
        write_figures(tables)


if __name__ == "__main__":
    main()
