"""How a value is printed for a person. A column "name_spread" beside "name" is printed behind it: 1.59x ± 0.02.

Rounding never changes the verdict: 0.9996 is not printed as 1.00x, nor a sparsity of 99.98 % as 100.0. What is
slower than dense, or takes more energy, says so in words, because colour does not survive a printer or a colour-blind
reader."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reports.words.headings import KNOWN, heading
from reports.words.settings import settings_text
from workloads.columns.column import Column, Printed
from workloads.verdicts import UNCLEAR

_FEW = 400  # lines up to which telling each is quicker than finding those that are alike
MISSING = "\N{EN DASH}"
NO_BASELINE = "baseline does not fit"
WORSE = {"speedup": "slower", "energy_ratio": "more energy", "edp_ratio": "higher EDP"}  # what a ratio below 1 means


class Cell(NamedTuple):
    """`text` for the eye; `sort` for ordering (None = missing); `worse` marks a ratio below 1: worse than dense."""

    text: str
    sort: float | str | None
    worse: bool = False


def cell(column: str, value: Any, spread: float | None = None, known: Mapping[str, Column] = KNOWN) -> Cell:
    """The value as this column prints it, with its spread where there is one."""
    return told(heading(column, known).printed, value, spread)


def told(printed: Printed, value: Any, spread: float | None = None) -> Cell:
    if pd.isna(value) or value == "":
        return Cell(MISSING, None)
    if printed == "text":
        return Cell(str(value), str(value))
    if printed == "settings":
        return Cell(settings_text(str(value)), str(value))
    if printed == "yes":
        return Cell("yes" if value else "no", "yes" if value else "no")
    number = float(value)
    text = _PRINTERS[printed](number)
    if spread is not None and not pd.isna(spread):
        text = with_spread(text, printed, float(spread))
    worse = printed in WORSE and number < 1
    return Cell(text + (f" ({WORSE[printed]})" if worse else ""), number, worse)


def cells(table: pd.DataFrame, columns: Iterable[str], known: Mapping[str, Column] = KNOWN) -> Iterator[list[Cell]]:
    """Line by line, the cells of the chosen columns."""
    found = [distinct(table, column, known) for column in columns]
    yield from map(list, zip(*([made[code] for code in codes.tolist()] for made, codes in found), strict=True))


def distinct(table: pd.DataFrame, column: str, known: Mapping[str, Column] = KNOWN) -> tuple[list[Cell], np.ndarray]:
    """(the cells of a column, which of them each line has): of a long table every different cell once."""
    kind = heading(column, known).printed
    words, spreads = _words(table, column), table.get(f"{column}_spread")
    nothing = [None] * len(table)
    if len(table) <= _FEW:
        beside = nothing if spreads is None else spreads.tolist()
        each = zip(table[column].tolist(), beside, words or nothing, strict=True)
        return [_made(kind, *line) for line in each], np.arange(len(table))
    if spreads is None and not words:
        codes, values = pd.factorize(table[column], use_na_sentinel=False)
        return _told_each(kind, values), codes
    parts = pd.DataFrame({"value": table[column], "spread": spreads, "word": words or ""})
    codes = parts.groupby(["value", "spread", "word"], sort=False, dropna=False).ngroup().to_numpy()
    first = parts.iloc[np.unique(codes, return_index=True)[1]]
    return [_made(kind, *line) for line in first.itertuples(index=False, name=None)], codes


def _told_each(kind: Printed, values: Any) -> list[Cell]:
    """`told` of each, whose time many different numbers would take."""
    if kind not in _PRINTERS:
        return [told(kind, value) for value in values]
    printer, worse = _PRINTERS[kind], WORSE.get(kind)
    said = f" ({worse})" if worse else ""
    numbers = pd.Series(values).to_numpy(dtype=np.float64, na_value=np.nan).tolist()
    return [
        Cell(MISSING, None)
        if number != number
        else Cell(printer(number) + said, number, True)
        if worse and number < 1
        else Cell(printer(number), number)
        for number in numbers
    ]


def _made(kind: Printed, value: Any, spread: float | None, word: str | None) -> Cell:
    made = told(kind, value, spread)
    return _worded(made, value, word) if word else made


def _words(table: pd.DataFrame, column: str) -> list[str]:
    """What is said of each line's speedup in place of slower or faster; "" where the number speaks for itself, [] where
    all do. A speedup of a part of the line, NAME, has its verdict in NAME_verdict."""
    if column != "speedup":
        verdicts = table.get(f"{column}_verdict")
        found = [] if verdicts is None else (verdicts == UNCLEAR).tolist()
        return [UNCLEAR if blurred else "" for blurred in found] if any(found) else []
    empty = pd.Series("", table.index)
    unclear = table.get("verdict", empty) == UNCLEAR
    if "no_baseline_layers" in table:
        bare = table["no_baseline_layers"].fillna(0) > 0
    else:
        bare = table.get("feasible", empty).eq(True) & (table.get("reason", empty).fillna("") != "")
    bare &= table["speedup"].isna()
    if not (bare.any() or unclear.any()):
        return []
    return [NO_BASELINE if out else UNCLEAR if blurred else "" for out, blurred in zip(bare, unclear, strict=True)]


def _worded(made: Cell, value: Any, word: str) -> Cell:
    if word == NO_BASELINE:
        return Cell(NO_BASELINE, None)
    return Cell(f"{times_text(float(value))} ({word})", made.sort) if made.sort is not None else made


def filled(table: pd.DataFrame, columns: Iterable[str], known: Mapping[str, Column] = KNOWN) -> list[str]:
    """Of these columns, the ones in which at least one line has a value that says something (`Column.nothing`)."""
    return [column for column in columns if column in table and _says(column, table[column], known)]


def _says(column: str, values: pd.Series, known: Mapping[str, Column]) -> bool:
    printed = heading(column, known).printed
    nothing = None if column not in known else known[column].nothing
    return any(told(printed, value).sort not in (None, nothing) for value in values.unique())


def with_spread(text: str, printed: Printed, spread: float) -> str:
    """The printed value with its spread; one too small to be seen is not printed as 0."""
    least = 0.1 if printed == "amount" else 0.01
    said = _PRINTERS[printed](spread) if printed in ("amount", "perplexity") else f"{spread:.2f}"
    if spread == 0:
        said = "0"
    elif spread < least / 2:
        said = f"<{least}"
    return f"{text} ± {said}"


def speedup_text(value: float) -> str:
    """1.24x, 12.3x, 0.87x (slower)."""
    return times_text(value) + (" (slower)" if value < 1 else "")


def times_text(value: float) -> str:
    """1.24x, 12.3x, 0.87x: three digits, never rounded onto or past 1."""
    if value >= 100:
        return f"{value:,.0f}x"
    decimals = 1 if value >= 10 else 2
    if value < 1:
        decimals = 2 if value >= 0.1 else 3
        while decimals < 9 and float(f"{value:.{decimals}f}") in (0.0, 1.0) and value > 0:
            decimals += 1
    return f"{value:.{decimals}f}x"


def _share(value: float) -> str:
    """A share 0..1 as percent without the sign (the heading has it); 0.0 and 100.0 only when exact."""
    decimals = 1
    while decimals < 6 and float(f"{100 * value:.{decimals}f}") in (0.0, 100.0) and value not in (0.0, 1.0):
        decimals += 1
    return f"{100 * value:.{decimals}f}"


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:,.1f}"


def quantity_text(value: float) -> str:
    """Three digits: 1,234, 12.3, 0.0123; 1.2e-05 where that would be mostly zeros."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    size = math.floor(math.log10(abs(value)))
    return f"{value:.1e}" if size < -4 else f"{value:,.{max(0, 2 - size)}f}"


def _perplexity(value: float) -> str:
    return f"{value:,.2f}" if value < 1e5 else f"{value:.2e}"


_PRINTERS = {
    "count": lambda value: f"{value:.0f}",
    "amount": _amount,
    "speedup": times_text,
    "energy_ratio": times_text,
    "edp_ratio": times_text,
    "ratio": times_text,  # below 1 it is no slowdown: not two times of one machine
    "share": _share,
    "perplexity": _perplexity,
    "number": lambda value: f"{value:g}",
    "quantity": quantity_text,
    "error": lambda value: f"{100 * value:+.1f}",
}
