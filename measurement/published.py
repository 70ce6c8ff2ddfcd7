"""Records of others that ship with the package: times that publications give, each with who measured it, under which
licence, and how. Needs no torch.

The files of measurement/published/ are made by benchmarks/published_*.py; NOTICE holds the licences. A record
that was published has a `source` in its header, and times of one situation, without samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from measurement.records import Record, read_record
from workloads.errors import UserError, unknown

FOLDER = Path(__file__).parent / "published"
ENDING = ".csv.gz"
ENDINGS = (".csv", ".gz", ".parquet")  # of any record's file
OPERATORS, WHOLE_MODELS = TABLES = ("operators", "whole-models")  # of no GEMMs: published_*.py


def read_table(path: Path, whole: Sequence[str], numbers: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """`columns` of a table that ships: `whole` numbers, other `numbers`, else texts; of numbers an empty cell is
    missing."""
    texts = {name: "str" for name in columns if name not in (*whole, *numbers)}
    missing = {name: [""] for name in (*whole, *numbers)}
    return pd.read_csv(path, dtype={**dict.fromkeys(whole, "Int64"), **texts}, keep_default_na=False, na_values=missing)


@dataclass(frozen=True)
class Source:
    """Who measured, where it is published, under which licence, and under which conditions."""

    name: str
    citation: str
    licence: str
    conditions: str

    @property
    def said(self) -> str:
        return f"{self.citation} ({self.licence}): {self.conditions}"


def names() -> list[str]:
    """Of the records that ship, such as "slidesparse-a100-pcie"."""
    return sorted({path.name.removesuffix(ENDING) for path in FOLDER.glob(f"*{ENDING}")} - {*TABLES})


def file_of(name: str) -> Path:
    """Of a record or a table that ships."""
    return FOLDER / f"{name}{ENDING}"


def is_name(text: str | Path) -> bool:
    """Whether it is a word, meant as the name of one that ships unless there is such a file."""
    path = Path(text)
    return not path.suffix and len(path.parts) == 1


def is_record(what: object) -> bool:
    """Whether it means a record: one that ships, or a file that may be one."""
    text = str(what)
    return text in names() or (Path(text).suffix in ENDINGS and Path(text).is_file())


def open_record(text: str | Path) -> Record:
    """Of a file, or of a name of those that ship. Raises UserError."""
    path = Path(text)
    if str(text) in names() and not path.exists():
        return read_record(file_of(str(text)))
    if is_name(text) and not path.exists():
        raise unknown("record", str(text), [*names(), *TABLES])
    return read_record(path)


def source_of(record: Record) -> Source | None:
    """None of a record that `measure` made. Raises UserError for one that says something else."""
    said: Any = record.header["source"]
    if not said:
        return None
    try:
        return Source(**said)
    except TypeError:
        raise UserError("a record's `source` holds name, citation, licence and conditions") from None
