"""Trials of a search: the front, how much of the space it covers as trials go on, the design between extremes."""

from itertools import combinations

import numpy as np
import pandas as pd

from reports.tables.fronts import covered, hypervolume, scaled
from workloads.searched import Searched

MOST_OBJECTIVES = 4  # for which a hypervolume is computed: its cost grows with the points to a power of their number
NAMED = ("settings", "method", "pattern", "target_sparsity")


def front_table(found: Searched) -> pd.DataFrame:
    """The designs on the front, by their numbers."""
    return found.trials[found.trials["front"]].sort_values("design", ignore_index=True)


def eligible(found: Searched) -> pd.DataFrame:
    """The trials that meet all constraints, each design once."""
    trials = found.trials
    return trials[trials["meets"] & trials["repeats"].isna()]


def box(found: Searched) -> tuple[np.ndarray, np.ndarray]:
    """(least, most) of every objective among the designs that meet the constraints."""
    points = _points(eligible(found), found)
    return points.min(axis=0), points.max(axis=0)


def progress_table(found: Searched) -> pd.DataFrame:
    """trials (so many were made) and covered: the share of the box between the least and the most of each objective,
    among all designs that meet the constraints, which the front of the trials until then dominates. A line where it
    grows, and the last. Empty where no two designs differ, or there are too many objectives."""
    if len(found.objectives) > MOST_OBJECTIVES or not found.trials["meets"].any():
        return pd.DataFrame(columns=["trials", "covered"])
    able = found.trials["meets"] & found.trials["repeats"].isna()
    points = np.where(able.to_numpy()[:, None], _points(found.trials, found), np.nan)
    least, most = box(found)
    if not (most > least).any():
        return pd.DataFrame(columns=["trials", "covered"])
    different = most > least
    unit = scaled(points[:, different], least[different], most[different])
    shares = covered(unit, np.ones(unit.shape[1]))
    lines = pd.DataFrame({"trials": np.arange(1, len(shares) + 1), "covered": shares})
    grown = lines["covered"].diff().fillna(1.0) > 0
    return lines[grown | (lines["trials"] == len(lines))].reset_index(drop=True)


def coverage(found: Searched) -> float:
    """The last of `progress_table`; NaN where there is none."""
    if len(found.objectives) > MOST_OBJECTIVES or not found.trials["meets"].any():
        return float("nan")
    least, most = box(found)
    different = most > least
    if not different.any():
        return float("nan")
    unit = scaled(_points(front_table(found), found)[:, different], least[different], most[different])
    return hypervolume(unit, np.ones(int(different.sum())))


def balanced(found: Searched) -> int | None:
    """The number of the design on the front nearest to the least of every objective, each scaled to the front's own
    span."""
    front = front_table(found)
    if len(found.objectives) < 2 or len(front) < 3:
        return None
    points = _points(front, found)
    unit = scaled(points, points.min(axis=0), points.max(axis=0))
    return int(front["design"].iloc[int(np.argmin((unit**2).sum(axis=1)))])


def pairs(found: Searched) -> list[tuple[str, str]]:
    """Of objectives, each of which differs among the designs that meet the constraints."""
    able = eligible(found)
    return list(combinations([name for name in found.objectives if able[name].nunique() > 1], 2))


def pair_front(lines: pd.DataFrame, x: str, y: str) -> pd.Series:
    """Which lines no other one beats in these two alone. (n,) bool"""
    order = lines.sort_values([x, y], kind="stable")
    least = order[y].cummin().shift(fill_value=np.inf)
    return (order[y] < least).reindex(lines.index)


def _points(lines: pd.DataFrame, found: Searched) -> np.ndarray:
    return lines[list(found.objectives)].to_numpy(np.float64, na_value=np.nan)
