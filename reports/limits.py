"""How much of a long result a page shows: a page stays a few MB however many rows there are, and says what it leaves
out.

Every number is in a .csv beside the page.
"""

from collections.abc import Sequence
from typing import TypeVar

import pandas as pd

_T = TypeVar("_T")

MOST_TABLES = 16  # of a section
MOST_LINES = 800  # of all tables of a section together
FEWEST_LINES = 40  # of each of them
MOST_DRAWN = 500  # lines in all figures on paper of a kind, but for the first, which is drawn whatever it holds
MOST_CHARTS = 12  # configurations with charts of their own on a page
MOST_RUNS = 48  # methods and patterns in the charts of one of them
MOST_COMPARED = 64  # tables of methods side by side, on a page and in its file
MOST_FIGURES = 4  # of every other kind
MOST_PANELS = 9  # places in one figure on paper, each a chart of its own on a page
MOST_LAYERS = 40_000  # lines of a page's table of all layers
MOST_SERIES = 12  # methods and patterns in one figure
EXAMPLES = 4  # of more than that, in a figure that has bars or a panel for each: as many as fit one page of paper
MOST_ROLES = 24  # in one figure
MOST_SENTENCES = 60


def lines_each(tables: int) -> int:
    """Lines that each of so many tables shows at most."""
    return max(FEWEST_LINES, MOST_LINES // max(1, min(tables, MOST_TABLES)))


def cut(items: Sequence[_T], most: int = MOST_TABLES) -> tuple[Sequence[_T], int]:
    """(the first of them, how many more there are)."""
    return items[:most], max(0, len(items) - most)


def more_tables(count: int, file: str) -> str:
    """ "" where none is left out."""
    return f"{count:,} more table{'' if count == 1 else 's'}: see {file}." if count else ""


def more_lines(table: pd.DataFrame, most: int) -> int:
    return max(0, len(table) - most)
