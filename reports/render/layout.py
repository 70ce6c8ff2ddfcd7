"""A table as every form of a report prints it: headings and cells as text, the columns without a value left out."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from reports.section import Table
from reports.tables.sums import ALL_ROLES
from reports.words.headings import Heading, heading, spans
from reports.words.present import Cell, cells, filled


@dataclass(frozen=True)
class Line:
    cells: list[Cell]
    whole: bool  # a line that sums up others


@dataclass(frozen=True)
class Grid:
    """`above`: (heading, columns it spans) above the headings, [] for one row of headings; `below`: the same of a line
    at the end.
    `more`: lines left out. `columns`: what each is of; `base`: the same before another unit was chosen."""

    heads: list[Heading]
    lines: list[Line]
    above: list[tuple[str, int]]
    below: Sequence[tuple[str, int]]
    more: int
    columns: Sequence[str] = ()
    base: Mapping[str, str] = field(default_factory=dict)


def lay_out(table: Table, most: int | None = None, without: Collection[str] = ()) -> Grid:
    """At most `most` lines, no columns of `without`."""
    frame = table.frame if most is None else table.frame.head(most)
    more = len(table.frame) - len(frame)
    frame, names = table.units(frame) if table.units else (frame, {})
    columns = [names.get(name, name) for name in table.columns if name not in without]
    columns = filled(frame, columns, table.known)
    heads = [heading(column, table.known) for column in columns]
    whole = frame[table.total_in].eq(ALL_ROLES) if table.total_in else [False] * len(frame)
    lines = [Line(line, bool(sums)) for line, sums in zip(cells(frame, columns, table.known), whole, strict=True)]
    base = {names.get(name, name): name for name in table.columns}
    return Grid(heads, lines, spans(heads), table.below, more, columns, base)
