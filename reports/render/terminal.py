"""What a report shows first, in a terminal."""

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text as RichText

from reports.render.layout import lay_out
from reports.section import Form, Report, Table, Text


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
                console.print(printed(block))
        if said:
            console.print()


def printed(table: Table) -> RichTable:
    """A rich table that wraps nothing but long texts."""
    grid = lay_out(table)
    title = RichText(table.name or table.caption)
    result = RichTable(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)
    for head in grid.heads:
        text = f"{head.group}\n{head.text}".strip() if head.group else head.narrow
        result.add_column(RichText(text), justify="right" if head.numeric else "left", no_wrap=not head.wraps)
    for line in grid.lines:
        # Text, not str: a model called "[red]" must not colour anything.
        result.add_row(*(RichText(cell.text, style="bold red" if cell.worse else "") for cell in line.cells))
    if grid.below:
        result.add_section()
        result.add_row(*(RichText(text) for said, width in grid.below for text in [said, *[""] * (width - 1)]))
    return result
