"""What each of several steps costs and gains: smaller matrices, then masks, then bits."""

from collections.abc import Mapping

import pandas as pd

from reports.tables.sums import CONFIG, groups, ratio


def step_table(headline: pd.DataFrame, after: Mapping[str, str]) -> pd.DataFrame:
    """The lines of `headline_table` of runs that go on from others or that others go on from; `after`: by the name of a
    method that of the one before it.

    step_speedup: time of the step before / time, of a first step as its `speedup`. total_speedup: time of the unpruned
    model / time, where that is the dense time of the first step, at its bits; the `speedup` of a quantized step is
    against dense layers of its own bits. NaN where a step before has no line here, or several."""
    chained = {*after, *after.values()}
    lines = []
    for _, here in groups(headline, CONFIG) if len(headline) else []:
        of = {key["method"]: part for key, part in groups(here, ["method"])}
        for line in here[here["method"].isin(chained)].to_dict("records"):
            before = after.get(line["method"])
            first, seen = line["method"], set()
            while first in after and first not in seen:
                seen.add(first)
                first = after[first]
            dense = _only(of.get(first), "dense_latency_us")
            own = line["latency_us"]
            since = dense if before is None else _only(of.get(before), "latency_us")
            lines.append({**line, "step_speedup": ratio(since, own), "total_speedup": ratio(dense, own)})
    return pd.DataFrame(lines)


def _only(lines: pd.DataFrame | None, column: str) -> float:
    return float(lines[column].iloc[0]) if lines is not None and len(lines) == 1 else float("nan")
