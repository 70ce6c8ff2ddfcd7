"""How experts share the tokens, as users say it: a word, or counts of a file or a list."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workloads.csv_text import check_fields
from workloads.errors import UserError
from workloads.experts import ROUTINGS
from workloads.files import read_json
from workloads.routing import Routing

ENDINGS = (".json", ".csv")
WORDS = "uniform, balanced, or the tokens of each expert: a .json or .csv file of them, or numbers with commas"
SAME = 0.01  # by how much blocks may differ in the visits that they were counted over
_MOST = 1e15
Counts = Sequence[float]


def parse_routing(text: str, beside: Path = Path()) -> Routing:
    """ "uniform", "balanced"; tokens by expert with commas between them, of every block; or a file of them: JSON, a
    list, or an object of lists by block number; CSV with the columns `expert`, `tokens` and, where blocks differ,
    `block`. Raises UserError for anything else, and where blocks count different numbers of visits."""
    if text in ROUTINGS:
        return Routing(text)
    if text.lower().endswith(ENDINGS):
        path = beside / text
        return given_routing(_of_csv(path) if text.lower().endswith(".csv") else _of_json(path), text)
    if "," not in text:
        raise UserError(f"`routing` {text!r}: {WORDS}")
    try:
        return given_routing([float(part) for part in text.split(",")])
    except ValueError:
        raise UserError(f"`routing` {text!r}: {WORDS}") from None


def given_routing(value: Any, where: str = "`routing`") -> Routing:
    """Of a word or a path; or of counts at hand: numbers, or lists of numbers by block. Raises UserError."""
    if isinstance(value, str | Path):
        return parse_routing(str(value))
    lists = {str(block): counts for block, counts in value.items()} if isinstance(value, Mapping) else {"": value}
    if not lists:
        raise UserError(f"{where}: expected a list with the tokens of each expert, or lists by block number")
    made = {}
    for block, counts in lists.items():
        at = f"{where}: block {block}" if block else where
        if block and not (block.isascii() and block.isdecimal()):
            raise UserError(f"{where}: {block!r} is no block number")
        numbers = counts.tolist() if isinstance(counts, np.ndarray) else counts
        if not isinstance(numbers, list | tuple) or not numbers or not all(map(_is_count, numbers)):
            raise UserError(f"{at}: expected a list of numbers from 0, the tokens of each expert")
        if not sum(numbers):
            raise UserError(f"{at}: no expert gets a token")
        made[str(int(block)) if block else ""] = list(numbers)
    if len(made) < len(lists):
        raise UserError(f"{where}: a block stands there twice")
    _check_sums(made, where)
    return Routing("counts", made)


def _check_sums(lists: Mapping[str, Counts], where: str) -> None:
    sums = {block: sum(counts) for block, counts in lists.items()}
    least, most = min(sums, key=lambda block: sums[block]), max(sums, key=lambda block: sums[block])
    if sums[most] > sums[least] * (1 + SAME):
        raise UserError(
            f"{where}: block {most} has {sums[most]:g} visits, block {least} {sums[least]:g}; every block sees the "
            "same tokens, so count the same ones in each, or give shares that sum alike"
        )


def _of_json(path: Path) -> Any:
    content = read_json(path, "counts of tokens by expert")
    if not isinstance(content, list | dict):
        raise UserError(f"{path}: expected a list with the tokens of each expert, or lists by block number")
    return content


def _of_csv(path: Path) -> Counts | dict[str, Counts]:
    """Every expert has a line, those without tokens too."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"counts of tokens by expert: no such file: {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"counts of tokens by expert: cannot read {path}: {error}") from None
    check_fields(path, text)
    lines = csv.DictReader(io.StringIO(text))
    names = lines.fieldnames or []
    if missing := [name for name in ("expert", "tokens") if name not in names]:
        raise UserError(
            f"{path} lacks the column {missing[0]!r}; it needs expert, tokens and, where they differ, block"
        )
    found: dict[str, dict[int, float]] = {}
    for line in lines:
        where = f"{path} line {lines.line_num}"
        number, cell = line["expert"].strip(), line["tokens"].strip()
        if not number.isascii() or not number.isdecimal() or len(number) > 6:
            raise UserError(f"{where}: expert = {number!r} is no number of an expert, counted from 0")
        try:
            tokens = float(cell)
        except ValueError:
            raise UserError(f"{where}: tokens = {cell!r} is no number") from None
        block = found.setdefault((line["block"] or "").strip() if "block" in names else "", {})
        if int(number) in block:
            raise UserError(f"{where}: expert {number} has a line already")
        block[int(number)] = tokens
    for name, block in found.items():
        if gap := next((number for number in range(max(block)) if number not in block), None):
            raise UserError(
                f"{path}: no line for expert {gap}{f' of block {name}' if name else ''}; one without tokens has 0"
            )
    return {name: [block[number] for number in sorted(block)] for name, block in found.items()}


def _is_count(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and 0 <= value < _MOST
