"""Rows without a time, or without a speedup: what is said of them, and when that ends a command."""

import pandas as pd

from studies.progress import warn
from workloads.errors import NothingRan
from workloads.routing import UNKNOWN


def warn_of_gaps(frame: pd.DataFrame) -> None:
    """Says how many rows cannot run, and how many have no dense baseline, with the first reason of each."""
    warn_of_routing(frame)
    refused, ran = frame[~frame["feasible"]], frame["feasible"]
    dense = frame["dense_cycles"].notna() | frame["dense_latency_us"].notna()
    bare = frame[ran & ~dense & (frame["reason"] != "")]
    for some, what in ((refused, "cannot run"), (bare, "have no speedup")):
        if len(some):
            first = some.iloc[0]
            warn(f"{len(some)} of {len(frame)} rows {what} on {first['target']}; {first['layer']}: {first['reason']}")


def warn_of_routing(frame: pd.DataFrame) -> None:
    """Says which assumption the rows of experts rest on where it is none that holds."""
    if (frame["routing"] == UNKNOWN).any():
        warn(
            "no config says how many experts see a token: every expert is timed with all tokens, which overstates them"
        )


def check_any_ran(frame: pd.DataFrame) -> None:
    """Raises NothingRan where there are rows and all of them are infeasible."""
    if len(frame) and "feasible" in frame and not frame["feasible"].any():
        first = frame.iloc[0]
        on = f" on {first['target']}" if "target" in frame else ""
        what = first["layer"] if "layer" in frame else first["model"]
        raise NothingRan(f"none of {len(frame):,} rows can run{on}; the first, {what}: {first['reason']}")
