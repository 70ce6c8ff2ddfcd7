"""What designs answer, held to what they are asked for: one of somebody else's may return anything.

Every refusal names the accelerator, its method, what came and what is wanted; whoever asks adds the layer's name.
"""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol

import numpy as np

from simulator.actions import Actions
from simulator.cycles import LayerCycles, Outcome
from simulator.engine import Stream
from simulator.statistics import MissingArray, Statistics
from simulator.work import Work
from workloads.arguments import shown
from workloads.errors import UserError
from workloads.files import canonical_json

_WHOLE = tuple(each.name for each in fields(LayerCycles) if each.type is int)
_PARTS: dict[str, tuple[Any, str]] = {
    "mapping": (str, "a text"),
    "extra": (Mapping, "a dict"),
    "actions": (Actions | None, "Actions or None"),
    "stream": (Stream | None, "a Stream or None"),
}


class Design(Protocol):
    """What of an `Accelerator` is asked here."""

    @property
    def name(self) -> str: ...
    def geometry(self) -> Any: ...
    def dense(self, rows: int, cols: int) -> dict[str, np.ndarray]: ...
    def layer(self, work: Work, statistics: Statistics) -> LayerCycles: ...
    def evaluate(self, work: Work, statistics: Statistics) -> Outcome: ...


def geometry_of(design: Design) -> Any:
    """Raises UserError unless JSON can say it, as it is part of a key."""
    geometry = design.geometry()
    try:
        canonical_json(geometry)
    except (TypeError, ValueError):
        raise _wrong(design, "geometry", geometry, "numbers and texts, in lists or dicts") from None
    return geometry


def arrays_of(design: Design, arrays: Any, method: str = "gather") -> dict[str, np.ndarray]:
    """`arrays`, which `method` returned. Raises UserError unless they can be kept."""
    if not isinstance(arrays, Mapping):
        raise _wrong(design, method, arrays, "a dict of numpy arrays by their names")
    for name, array in arrays.items():
        if not isinstance(name, str):
            raise _wrong(design, method, name, "a text", "an array of the name ")
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
            raise _wrong(design, method, array, "a numpy array of numbers", f"{name} = ")
    return dict(arrays)


def layer_of(design: Design, work: Work, statistics: Statistics) -> LayerCycles:
    """`design.layer`. Raises as that, and UserError for what is no LayerCycles or holds what cannot be."""
    try:
        found = design.layer(work, statistics)
    except MissingArray as error:
        raise UserError(f"{design.name}: {error}") from None
    return _checked(design, "layer", found)


def outcome_of(design: Design, work: Work, statistics: Statistics) -> Outcome:
    """`design.evaluate`, likewise."""
    try:
        outcome = design.evaluate(work, statistics)
    except MissingArray as error:
        raise UserError(f"{design.name}: {error}") from None
    if not isinstance(outcome, Outcome):
        raise _wrong(design, "evaluate", outcome, "an Outcome")
    _checked(design, "evaluate", outcome.sparse)
    if outcome.unpruned is not None:
        _checked(design, "evaluate", outcome.unpruned)
    return outcome


def _checked(design: Design, method: str, found: Any) -> LayerCycles:
    if not isinstance(found, LayerCycles):
        raise _wrong(design, method, found, "a LayerCycles")
    for name, (kind, wanted) in _PARTS.items():
        if not isinstance(getattr(found, name), kind):
            raise _wrong(design, method, getattr(found, name), wanted, f"{name} = ")
    for name in _WHOLE:
        if not _counts(getattr(found, name)) or getattr(found, name) % 1:
            raise _wrong(design, method, getattr(found, name), "a whole number, 0 or more", f"{name} = ")
    if not _counts(found.ideal_cycles):
        raise _wrong(design, method, found.ideal_cycles, "a number, 0 or more", "ideal_cycles = ")
    return found


def _counts(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and bool(0 <= value < math.inf)


def _wrong(design: Design, method: str, value: Any, wanted: str, field: str = "") -> UserError:
    return UserError(f"{design.name}: `{method}` returned {field}{shown(value)}; it should be {wanted}")
