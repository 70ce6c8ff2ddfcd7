"""What a report shows first, in a terminal."""

from textwrap import wrap
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text as RichText

from reports.render.layout import Grid, lay_out
from reports.section import Form, Report, Table, Text

MUCH = 8  # columns that a text takes where it stands, whatever it is
LEAST_TEXT = 24  # columns of a terminal that a long text takes at least
ANY = 10_000


def print_sections(report: Report, console: Console, few: int) -> None:
    """Sections of details only where they are at most `few` tables."""
    for section, blocks in report.of(Form.TERMINAL):
        tables = [block for block in blocks if isinstance(block, Table)]
        if section.details and len(tables) > few:
            continue
        said = False
        for block in blocks:
            if said and not isinstance(block, Text):
                console.print()
            said = isinstance(block, Text)
            if isinstance(block, Text):
                console.print(RichText(block.text))
            elif isinstance(block, Table):
                print_table(block, console)
        if said:
            console.print()


def print_table(table: Table, console: Console) -> None:
    """No number and no name is cut. Where the terminal is too narrow, headings wrap between their words, then long
    texts go below the table, each under a number; a table that is wider all the same runs on in the terminal's next
    line."""
    grid = lay_out(table)
    title = RichText(table.name or table.caption)
    rows = [[cell.text for cell in line.cells] for line in grid.lines]
    notes: list[str] = []
    result = printed(title, grid, rows, narrow=_widest(title, grid, rows, console) > console.width)
    least = _widths(result, console).minimum
    if least > console.width and any(head.wraps for head in grid.heads):
        rows, notes = numbered(grid, rows)
        result = printed(title, grid, rows, narrow=True)
        least = _widths(result, console).minimum
    if least > console.width:
        result.width = least
    console.print(result, crop=False)
    for note in notes:
        console.print(RichText(note), soft_wrap=True)


def printed(title: RichText, grid: Grid, rows: list[list[str]], narrow: bool) -> RichTable:
    """A rich table that wraps nothing but long texts and, where it is to be `narrow`, headings."""
    padding = (0, 1, 0, 0) if narrow else (0, 1)
    result = RichTable(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False, padding=padding)
    for place, head in enumerate(grid.heads):
        text = f"{head.group}\n{head.text}".strip() if head.group else head.narrow
        longest = max((cell_len(row[place]) for row in rows), default=0)
        least = max(min(longest, LEAST_TEXT) if head.wraps else longest, *map(cell_len, text.split()), 1)
        if narrow:
            text = "\n".join("\n".join(wrap(line, least, break_long_words=False)) for line in text.splitlines())
        justify: Literal["left", "right"] = "right" if head.numeric else "left"
        result.add_column(RichText(text), justify=justify, no_wrap=not head.wraps, min_width=least)
    for line, row in zip(grid.lines, rows, strict=True):
        # Text, not str: a model called "[red]" must not colour anything.
        styles = ["bold red" if cell.worse else "" for cell in line.cells]
        result.add_row(*(RichText(text, style=style) for text, style in zip(row, styles, strict=True)))
    if grid.below:
        result.add_section()
        result.add_row(*(RichText(text) for said, width in grid.below for text in [said, *[""] * (width - 1)]))
    return result


def numbered(grid: Grid, rows: list[list[str]]) -> tuple[list[list[str]], list[str]]:
    """Long texts as numbers, and what these stand for."""
    numbers: dict[tuple[str, str], str] = {}
    for row in rows:
        for head, text in zip(grid.heads, row, strict=True):
            if head.wraps and cell_len(text) > MUCH:
                numbers.setdefault((head.text, text), str(len(numbers) + 1))
    short = [[numbers.get((h.text, text), text) for h, text in zip(grid.heads, row, strict=True)] for row in rows]
    return short, [f"{head} {number}: {text}" for (head, text), number in numbers.items()]


def _widest(title: RichText, grid: Grid, rows: list[list[str]], console: Console) -> int:
    return _widths(printed(title, grid, rows, narrow=False), console).maximum


def _widths(result: RichTable, console: Console) -> Measurement:
    return Measurement.get(console, console.options.update(max_width=ANY), result)
