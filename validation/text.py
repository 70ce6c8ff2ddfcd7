"""Tables as Markdown."""

from validation.comparison import Table


def lines(one: Table) -> list[str]:
    cells = [one.head, tuple("---" for _ in one.head), *one.rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]


def count(cases: int) -> str:
    return "1 case" if cases == 1 else f"{cases} cases"
