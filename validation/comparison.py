"""A comparison of one model with one source, its errors, and the tables that show it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

# Who wrote what the model is compared with; see `index_page.KINDS` for what each can and cannot show.
Kind = Literal["own rule", "statistics", "program", "paper", "silicon"]
PERCENT_DIGITS = 2
TINY = 1e-5  # a relative error below it is printed as this bound, not as 0


@dataclass(frozen=True)
class Table:
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]


@dataclass(frozen=True)
class Point:
    """One figure of a publication or of another program beside the model's, and why they differ."""

    what: str
    source: str
    model: str
    error: float
    why: str


@dataclass(frozen=True)
class Comparison:
    """`errors`: model / source - 1 of every case; empty where the source gives nothing that could be divided by.

    `says` is printed above the tables: what was run, and where the two differ, why. `points`: figures that the page may
    name among those that are missed.
    """

    model: str
    source: str
    kind: Kind
    errors: tuple[float, ...]
    says: str
    tables: list[Table] = field(default_factory=list)
    points: tuple[Point, ...] = ()

    @property
    def cases(self) -> int:
        return len(self.errors)

    @property
    def median_error(self) -> float:
        """Of magnitudes."""
        return median(abs(error) for error in self.errors)

    @property
    def largest_error(self) -> float:
        return max(abs(error) for error in self.errors)


@dataclass(frozen=True)
class NotRun:
    """A comparison that this machine could not make, or was told not to."""

    model: str
    source: str
    kind: Kind
    reason: str


Found = Comparison | NotRun


def error_of(model: float, source: float) -> float:
    """model / source - 1; 0 where both are 0, infinite where only the source is."""
    if source == 0:
        return 0.0 if model == 0 else float("inf")
    return model / source - 1


def percent(error: float, sign: bool = False) -> str:
    """Two significant digits, "0" for exact agreement alone."""
    if error == 0:
        return "0"
    if abs(error) < TINY:
        return f"< {100 * TINY:g} %"
    digits = max(0, PERCENT_DIGITS - 1 - math.floor(math.log10(abs(100 * error)))) if math.isfinite(error) else 0
    return f"{100 * error:{'+' if sign else ''}.{digits}f} %"


def number(value: float) -> str:
    """Whole numbers with separators, others to four digits."""
    if value == round(value) and abs(value) < 1e15:
        return f"{round(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1e3 else f"{value:.4g}"


def table(head: Sequence[str], rows: Iterable[Sequence[str | float]]) -> Table:
    """Cells are text or numbers."""
    return Table(tuple(head), [tuple(cell if isinstance(cell, str) else number(cell) for cell in row) for row in rows])
