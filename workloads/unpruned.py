"""Rows of layers from which rows, columns or everything was taken, and of products of factors: whatever the target,
their baseline is the unpruned layer, once."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from workloads.bundle import BundleHeader
from workloads.conditions import Conditions
from workloads.errors import UserError
from workloads.facts import linear_facts
from workloads.operations import Linear, Operation
from workloads.parts import BYTES, COSTS, RATIOS, rows_of_parts
from workloads.targets import Gathered, Row, Target
from workloads.verdicts import verdict

# What a row says of the unpruned layer -> what the unpruned layer's own row calls it.
OF_UNPRUNED = {
    "dense_cycles": "cycles", "dense_compute_cycles": "compute_cycles", "dense_latency_us": "latency_us",
    "dense_energy_pj": "energy_pj", "dense_edp_pj_us": "edp_pj_us", "dense_mac_pj": "mac_pj",
    "dense_idle_pj": "idle_pj", "dense_register_pj": "register_pj", "dense_buffer_pj": "buffer_pj",
    "dense_dram_pj": "dram_pj",
}  # fmt: skip
OF_PUBLICATIONS = ("published_dense_cycles", "published_speedup")  # of the smaller layer: it has no such baseline


def rows_against_unpruned(
    target: Target, header: BundleHeader, operation: Operation, conditions: Conditions, gathered: Gathered
) -> Sequence[Row]:
    """The target's rows; of a layer that is not of its first sizes any more, against the unpruned one on the same
    target. Raises UserError where that has no figures for what runs."""
    for each in _runs(operation):
        if refusal := target.supports(each):
            raise UserError(f"{target.name}: {refusal}")
    if not isinstance(operation, Linear) or not operation.is_changed:
        return target.rows(header, operation, conditions, gathered)
    unpruned = target.rows(header, operation.before(), conditions, gathered)
    if operation.is_gone:
        return [_gone({**row, **linear_facts(header, operation)}) for row in unpruned]
    if operation.factors is not None:
        own: Sequence[Row] = rows_of_parts(target, header, operation, conditions, gathered)
    else:
        own = target.rows(header, operation, conditions, gathered)
    if len(own) != len(unpruned):
        raise UserError(f"{target.name} has other figures of the unpruned layer than of this one; measure both alike")
    return [_against(row, base) for row, base in zip(own, unpruned, strict=True)]


def _runs(operation: Operation) -> list[Operation]:
    """What a target is asked for."""
    if not isinstance(operation, Linear) or not operation.is_changed:
        return [operation]
    own = [part for _, part in operation.parts] or ([] if operation.is_gone else [operation])
    return [operation.before(), *own]


def _gone(row: Row) -> Row:
    """Nothing runs: no cycle, no byte, no speedup of its own, but what the unpruned layer costs counts in sums."""
    if not row["feasible"]:
        return row
    nothing = {name: 0 for name in (*COSTS, "edp_pj_us") if row.get(name) is not None}
    texts = {"mapping": "it was taken out", "bound": "", "verdict": "", "kernel": "", "extrapolated": ""}
    silent = dict.fromkeys(("utilisation", "latency_error_p90", "speedup_error_p90"))
    kept = {name: value for name, value in {**texts, **silent}.items() if name in row}
    return _ratios({**row, **_baseline(row), **nothing, **kept, **dict.fromkeys(OF_PUBLICATIONS)})


def _against(row: Row, unpruned: Row) -> Row:
    if not row["feasible"]:
        return row
    if not unpruned["feasible"]:
        why = f"the unpruned layer cannot run: {unpruned['reason']}"
        return {**row, **dict.fromkeys([*OF_UNPRUNED, "dense_bytes", *RATIOS]), "reason": why}
    made = _ratios({**row, **_baseline(unpruned), **dict.fromkeys(OF_PUBLICATIONS)})
    if "latency_error_p90" in made:
        made |= _confidence(made, row["latency_error_p90"], unpruned["latency_error_p90"])
    return made


def _baseline(unpruned: Row) -> dict[str, Any]:
    found = {name: unpruned.get(own) for name, own in OF_UNPRUNED.items()}
    moved = [unpruned[name] for name in BYTES if unpruned.get(name) is not None]
    found["dense_bytes"] = sum(moved) if moved else None
    return {name: value for name, value in found.items() if value is not None}


def _ratios(row: Row) -> Row:
    return {**row, **{name: _ratio(row.get(over), row.get(under)) for name, (over, under) in RATIOS.items()}}


def _ratio(over: float | None, under: float | None) -> float | None:
    return over / under if over is not None and under else None


def _confidence(row: Row, own: float | None, unpruned: float | None) -> dict[str, Any]:
    """Two predicted times are off independently of each other at worst; what they have in common cancels."""
    if own is None or unpruned is None or row["speedup"] is None:
        return {}
    error = math.hypot(own, unpruned)
    return {
        "speedup_error_p90": error,
        "verdict": str(verdict(np.array([row["speedup"]]), np.array([error]))[0]),
    }
