"""The tables of columns in docs/formats.md, made from the code's: `python -m tests.column_tables` writes them anew."""

import importlib
import pkgutil
import re
from pathlib import Path

import workloads
from simulator.accelerators.vitcod.attention.figures import CYCLE_COLUMNS, PAPER_COLUMNS
from workloads.columns.column import Column

PAGE = Path(__file__).resolve().parents[1] / "docs" / "formats.md"
REGION = re.compile(r"(<!-- columns: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def schemas() -> dict[str, tuple[Column, ...]]:
    """Every table of columns there is in workloads/, and what targets of attention add, by its name in the code."""
    found: dict[str, tuple[Column, ...]] = {"CYCLE_COLUMNS": CYCLE_COLUMNS, "PAPER_COLUMNS": PAPER_COLUMNS}
    for module in pkgutil.walk_packages(workloads.__path__, "workloads."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, tuple) and value and all(isinstance(column, Column) for column in value):
                found[name] = value
    return found


def table(columns: tuple[Column, ...]) -> str:
    lines = [f"| `{c.name}` | {c.kind} | {unit(c)} | {c.meaning.replace('|', chr(92) + '|')} |" for c in columns]
    return "\n".join(["", "| column | type | unit | meaning |", "|---|---|---|---|", *lines, "", ""])


def unit(column: Column) -> str:
    """Of the values in files, where shares are not percent."""
    return "" if column.unit == "%" else column.unit


def with_tables(text: str) -> str:
    """The page with every table as the code has it. Raises KeyError for one that the code has not."""
    known = schemas()
    return REGION.sub(lambda found: found[1] + table(known[found[2]]) + found[3], text)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
