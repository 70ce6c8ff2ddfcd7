"""What runs operations: an accelerator, a GPU whose times are predicted, a record of what was measured. All answer for
themselves."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from workloads.bundle import BundleHeader
from workloads.columns.column import Column
from workloads.conditions import Conditions
from workloads.operations import Operation
from workloads.refusals import Refusal

Row = dict[str, Any]


class Gathered(Protocol):
    """What was gathered from masks, shared by all who need the same of the same mask (simulator/statistics.py)."""

    def get(
        self, content: str, geometry: Any, gather: Callable[[], dict[str, np.ndarray]], keep: bool = True
    ) -> Any: ...


class Target(Protocol):
    """`source` and `level` are those of its rows (workloads/rows.py); `sha256` is of its whole description and `key` of
    all that its rows depend on beside masks and conditions. `columns` are those that its rows have beyond the schema,
    `table` the names of what a terminal shows. `notes` are whole sentences for reports; `untraceable` says why no tiles
    can be shown, "" where they can."""

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def level(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def key(self) -> list[Any]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def columns(self) -> tuple[Column, ...]: ...
    @property
    def table(self) -> tuple[str, ...]: ...
    @property
    def executes(self) -> tuple[type[Operation], ...]:
        """The kinds of operations that it has figures for."""
        ...

    @property
    def untraceable(self) -> str: ...

    def check(self, conditions: Conditions) -> None:
        """Raises UserError for conditions that it has no figures for."""
        ...

    def supports(self, operation: Operation) -> Refusal | None:
        """Why it has no figures for an operation, as far as that is known without its mask."""
        ...

    def rows(
        self, header: BundleHeader, operation: Operation, conditions: Conditions, gathered: Gathered
    ) -> Sequence[Row]:
        """Of one operation that it supports, infeasible ones with their reason. Raises UserError."""
        ...


def other_kind(target: Target, operation: Operation) -> Refusal:
    """For a kind of operation that a target has no figures for."""
    kind = type(operation).__name__.lower()
    way_out = (
        f"{target.name} runs {kinds_text(target.executes)}; `prunesim ls accelerators` says what each of them runs"
    )
    return Refusal(f"a target of {kind}", where=operation.name, way_out=way_out)


def kinds_text(kinds: Iterable[type[Operation]]) -> str:
    """ "linear and attention": kinds of operations as people read them."""
    return " and ".join(kind.__name__.lower() for kind in kinds)
