"""The heading of a column in a table, made from what the column says of itself.

A column "X@name" is the column `name` of X, a method or a target, and stands below X where headings have two rows. A
column in another unit (dram_mj) is that of its base unit (dram_pj) with the unit in its heading."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from reports.words.derived import DERIVED_COLUMNS
from reports.words.units import unit_of
from workloads.columns.column import Column, Printed
from workloads.columns.layers import LAYER_COLUMNS
from workloads.columns.quality import QUALITY_COLUMNS

KNOWN = {column.name: column for column in (*DERIVED_COLUMNS, *QUALITY_COLUMNS, *LAYER_COLUMNS)}


@dataclass(frozen=True)
class Heading:
    text: str
    printed: Printed
    meaning: str = ""
    group: str = ""
    narrow: str = ""  # the text where room is short
    wraps: bool = False

    @property
    def flat(self) -> str:
        """The heading where there is one row of headings."""
        return f"{self.group} {self.text}".strip()

    @property
    def numeric(self) -> bool:
        return self.printed not in ("text", "settings", "yes")


def by_name(columns: Sequence[Column]) -> Mapping[str, Column]:
    """`columns` before all others of their names."""
    return {**KNOWN, **{column.name: column for column in columns}} if columns else KNOWN


def heading(column: str, known: Mapping[str, Column] = KNOWN) -> Heading:
    return _usual(column) if known is KNOWN else _heading(column, known)


@cache
def _usual(column: str) -> Heading:
    return _heading(column, KNOWN)


def _heading(column: str, known: Mapping[str, Column]) -> Heading:
    group, _, name = column.rpartition("@")
    found, unit = known.get(name), ""
    if (base := unit_of(name)) and base[0] in known:
        found, unit = known[base[0]], base[1].text
    found = found or Column(name, "text")
    unit = unit or found.unit
    text = f"{found.title} ({unit})" if unit else found.title
    said = found.short or text if group else text
    return Heading(said, found.shown, found.meaning, group, found.narrow or said, found.wraps)


def spans(heads: Iterable[Heading]) -> list[tuple[str, int]]:
    """(group, columns it spans) from left to right; [] when no group has two columns, and one row of headings does."""
    merged: list[tuple[str, int]] = []
    for head in heads:
        if merged and head.group and merged[-1][0] == head.group:
            merged[-1] = head.group, merged[-1][1] + 1
        else:
            merged.append((head.group, 1))
    return merged if any(width > 1 for _, width in merged) else []
