"""Operations of dense whole models under the roofs of their targets."""

from collections.abc import Iterator

import pandas as pd

from reports.tables.serving import DENSE, TARGET, dense_of, places
from workloads.whole_models import WholeModels

_OF_ROLE = {
    "attention": "attention", "kv_write": "attention", "softmax": "attention", "head": "head", "experts": "experts",
    "router": "experts", "expert_sum": "experts", "norm": "elementwise", "add_norm": "elementwise",
    "add": "elementwise", "rotary": "elementwise", "activation": "elementwise", "embedding": "elementwise",
}  # fmt: skip


def group_of(role: str) -> str:
    """Of the kinds of operations that rows have shares of."""
    return _OF_ROLE.get(role, "linears")


def rooflines(whole: WholeModels, table: pd.DataFrame) -> Iterator[tuple[dict, pd.DataFrame, float, float]]:
    """({TARGET and sizes, batch}, operations, peak TFLOP/s, GB/s) of the dense model at the largest batch, on targets
    whose roofs are known. Operations without FLOP, and what the host adds, have no place under a roof."""
    if whole.operations.empty or whole.roofs.empty:
        return
    kept = whole.operations[whole.operations["flop"].fillna(0) > 0]
    kept = kept[kept["method"].isin(("", DENSE))]
    for key, lines in places(table):
        dense = dense_of(lines)
        if dense.empty:
            continue
        one = dense.sort_values("batch").iloc[-1]
        wanted = {**{name: key[name] for name in TARGET if name in kept}, "dtype": one["dtype"], "batch": one["batch"],
                  "prompt": key["prompt"], "generate": key["generate"]}  # fmt: skip
        own = kept.loc[(kept[list(wanted)] == pd.Series(wanted)).all(axis=1)]
        roofs = whole.roofs
        roof = roofs[
            (roofs[["target", "settings", "dtype"]] == [key["target"], key["settings"], one["dtype"]]).all(axis=1)
        ]
        if own.empty or roof.empty:
            continue
        moved = own["weight_bytes"] + own["activation_bytes"] + own["kv_bytes"]
        points = own.assign(
            intensity=own["flop"] / moved, tflops=own["flop"] / own["latency_us"] / 1e6,
            group=own["role"].map(group_of),
        )  # fmt: skip
        points = points[(points["intensity"] > 0) & (points["latency_us"] > 0)]
        if len(points):
            yield (
                {**key, "batch": int(one["batch"])},
                points,
                *map(float, roof.iloc[0][["peak_tflops", "bandwidth_gbps"]]),
            )


def below_slope(points: pd.DataFrame, peak_tflops: float, bandwidth_gbps: float) -> tuple[float, float]:
    """(share of the whole time in operations left of the ridge, that of the others)."""
    left = points["intensity"] < 1e3 * peak_tflops / bandwidth_gbps
    return float(points.loc[left, "share"].sum()), float(points.loc[~left, "share"].sum())
