"""The expectation of what a layer takes, over the runs that may happen."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from simulator.actions import Actions
from simulator.cycles import LayerCycles, Outcome
from workloads.routing import Load


def expected(load: Load, outcome: Callable[[int], Outcome]) -> Outcome:
    """`outcome(tokens)` of each part of the load, weighted. Whole numbers stay whole (Load.rounding); words are those
    of the first."""
    runs = [(weight, outcome(tokens)) for tokens, weight in load.parts]
    first = runs[0][1]
    if len(runs) == 1 and load.executions == 1:
        return first
    bare = next((run for _, run in runs if run.unpruned is None), None)
    return dataclasses.replace(
        first,
        sparse=_layer([(weight, run.sparse) for weight, run in runs], load.rounding),
        unpruned=None if bare else _layer([(weight, run.dense) for weight, run in runs], load.rounding),
        published_dense_cycles=_number([(weight, run.published_dense_cycles) for weight, run in runs], load.rounding),
        dense_refusal=bare.dense_refusal if bare else None,
    )


def _layer(runs: list[tuple[float, LayerCycles]], rounding: float) -> LayerCycles:
    first = runs[0][1]
    values: dict[str, Any] = {
        each.name: _number([(weight, getattr(run, each.name)) for weight, run in runs], rounding)
        for each in dataclasses.fields(LayerCycles)
        if isinstance(getattr(first, each.name), int | float)
    }
    extra = {
        name: _number([(weight, run.extra[name]) for weight, run in runs], rounding)
        if isinstance(value, int | float)
        else value
        for name, value in first.extra.items()
    }
    actions = _actions([(weight, run.actions) for weight, run in runs])
    return dataclasses.replace(first, **values, extra=extra, actions=actions, stream=None)


def _number(values: list[tuple[float, Any]], rounding: float) -> Any:
    if any(value is None for _, value in values):
        return None
    mean = math.fsum(weight * value for weight, value in values if value is not None)
    return math.floor(mean + rounding) if all(isinstance(value, int) for _, value in values) else mean


def _actions(runs: list[tuple[float, Actions | None]]) -> Actions | None:
    known = [(weight, actions) for weight, actions in runs if actions is not None]
    if len(known) < len(runs):
        return None

    def mean(name: str, place: int | None = None) -> float:
        values = ((w, getattr(a, name)) for w, a in known)
        return math.fsum(w * (value if place is None else value[place]) for w, value in values)

    return Actions(
        mean("macs"),
        mean("idle_macs"),
        (mean("read_bits", 0), mean("read_bits", 1), mean("read_bits", 2), mean("read_bits", 3)),
        (mean("write_bits", 0), mean("write_bits", 1), mean("write_bits", 2), mean("write_bits", 3)),
        mean("dram_bits"),
    )
