"""How much of the exact Pareto front samplers find after so many trials: python -m benchmarks.search_samplers

All designs of a small space are tried first. The hypervolume is of the box between the least and the most of each
objective over all of them, and what is printed is the share of the exact front's that a sampler reached."""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from reports.tables.fronts import covered, scaled
from studies.executors.executor import Here
from studies.progress import ProgressLine
from studies.running.plan import Plan
from studies.running.store import Store
from studies.search.search_run import run_search
from studies.search.settings import SAMPLED
from studies.study import read_study

STUDY = Path(__file__).with_name("search_samplers.toml")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("out/search-samplers"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, nargs="+", default=[25, 50, 100])
    asked = parser.parse_args()
    study = read_study(STUDY)
    store = Store(asked.folder)

    def points(**changed: object) -> np.ndarray:
        search = dataclasses.replace(study.file.search, **changed)  # type: ignore[type-var]
        changed_study = dataclasses.replace(study, file=dataclasses.replace(study.file, search=search))
        trials = run_search(Plan(changed_study), store, Here(), ProgressLine()).trials
        return trials[list(search.objectives)].to_numpy(np.float64, na_value=np.nan)  # type: ignore[union-attr]

    exact = points()
    ran = exact[np.isfinite(exact).all(axis=1)]
    least, most = ran.min(axis=0), ran.max(axis=0)
    best = covered(scaled(ran, least, most), np.ones(len(least)))[-1]
    print(f"{len(exact):,} designs, {len(ran):,} run; the exact front covers {best:.4f} of the box")
    lines = []
    for sampler in SAMPLED:
        for population in (50, 20) if sampler == "nsga2" else (50,):
            named = f"{sampler}, {population} a generation" if sampler == "nsga2" else sampler
            each = []
            for seed in range(asked.seeds):
                tried = points(sampler=sampler, seed=seed, trials=max(asked.trials), population=population)
                shares = covered(scaled(tried, least, most), np.ones(len(least))) / best
                each.append([shares[count - 1] for count in asked.trials])
            said = [f"{min(values):.3f} {np.mean(values):.3f} {max(values):.3f}" for values in zip(*each, strict=True)]
            lines.append([named, *said])
    print(pd.DataFrame(lines, columns=["sampler", *asked.trials]).to_string(index=False))


if __name__ == "__main__":
    main()
