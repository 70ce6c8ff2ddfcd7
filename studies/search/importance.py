"""Which parameters matter for which objective.

Of all designs of a space: the share of an objective's variance that a parameter explains alone, exact as every value
meets every other. Of sampled ones optuna's estimate, PED-ANOVA (Watanabe, Bansal and Hutter, "PED-ANOVA: Efficiently
Quantifying Hyperparameter Importance in Arbitrary Subspaces", IJCAI 2023)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from studies.search.sampling import LEAST_FOR_IMPORTANCE, Sampling
from workloads.files import canonical_json

COLUMNS = ["parameter", "objective", "importance"]
EXACT = (
    "The share of an objective's variance over all designs that run which a parameter explains alone; what is left is "
    "due to parameters together."
)
ESTIMATED = (
    "How much the values of a parameter among the best tenth of the trials differ from those of all trials "
    "(PED-ANOVA, by optuna), as shares of the sum over the parameters."
)
TOO_FEW = f"Importances need {LEAST_FOR_IMPORTANCE} designs that run and differ."


def of_all(trials: pd.DataFrame, parameters: Sequence[str], objectives: Sequence[str]) -> pd.DataFrame:
    """`trials`: one line for every design."""
    lines = []
    for objective in objectives:
        known = trials[trials["feasible"] & trials[objective].notna()]
        values = known[objective].to_numpy(np.float64)
        if len(known) < 2 or values.std() <= 1e-12 * abs(values.mean()):
            continue
        for name in parameters:
            groups = known[name].map(canonical_json)
            means = known[objective].astype("float64").groupby(groups).transform("mean").to_numpy(np.float64)
            lines.append([name, objective, float(means.var() / values.var())])
    return pd.DataFrame(lines, columns=COLUMNS)


def estimated(sampling: Sampling, objectives: Sequence[str]) -> pd.DataFrame:
    lines = []
    for place, objective in enumerate(objectives):
        found = sampling.importances(place)
        lines += [[name, objective, float(found[name])] for name in sampling.free if name in found]
    return pd.DataFrame(lines, columns=COLUMNS)
