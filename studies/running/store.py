"""The results of a study's tasks on disk, each beside the hash of what it was made from and of itself: unchanged ones
are not made again, so a killed study goes on where it was; one that somebody edited, or that lost a file, is made again
and named."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from studies.progress import warn
from studies.report import read_rows
from workloads.bundle import MaskBundle
from workloads.columns.column import Column
from workloads.csv_text import csv_text
from workloads.errors import UserError
from workloads.files import LOCK_FILE, pretty_json, read_json, sha256_of_file, write_bytes, write_text
from workloads.locking import writing


class Store:
    """Rows by name and bundles by folder, found by their key or not at all. Holds nothing but its folder, so that tasks
    in other processes write to the same one."""

    def __init__(self, folder: Path):
        self.folder = folder

    def find_rows(self, name: str, key: str, columns: tuple[Column, ...]) -> pd.DataFrame | None:
        """None where there are none of this key, or, after a word on it, where they are not as they were written."""
        file = self.rows_file(name, key)
        return None if file is None else read_rows(file, columns)

    def rows_file(self, name: str, key: str, kind: str = "csv") -> Path | None:
        """Where the rows of this key are, unread, after the same word where they are not as they were written."""
        file, stamp = self._rows_files(name, kind)
        made = stamped(stamp)
        if made.get("key") != key or not file.is_file():
            return None
        if made.get("sha256") != sha256_of_file(file):
            warn(f"{file} was changed after it was written; the step is run again")
            return None
        return file

    def make_rows(self, name: str, key: str, make: Callable[[], pd.DataFrame], kind: str = "csv") -> None:
        """`kind`: csv or parquet."""
        file, stamp = self._rows_files(name, kind)
        stamp.unlink(missing_ok=True)  # before the rows: no moment may show new rows under an old stamp
        if kind == "parquet":
            write_bytes(file, parquet_bytes(make()))
        else:
            write_text(file, csv_text(make()))
        write_text(stamp, pretty_json({"key": key, "sha256": sha256_of_file(file)}))

    def keep_parts(self, name: str, kind: str, count: int) -> None:
        """Of rows in parts, NAME/00000 and so on, what an earlier run left beyond these."""
        kept = {file.name for part in range(count) for file in self._rows_files(part_name(name, part), kind)}
        for file in (self.folder / "steps" / name).iterdir():
            if file.name not in kept:
                file.unlink(missing_ok=True)

    def _rows_files(self, name: str, kind: str = "csv") -> tuple[Path, Path]:
        return self.folder / "steps" / f"{name}.{kind}", self.folder / "steps" / f"{name}.json"

    def find_bundle(self, name: str, key: str) -> MaskBundle | None:
        """None where there is none of this key that is whole; after a word on it where it is damaged or was changed."""
        folder, stamp = self._bundle_places(name)
        made = stamped(stamp)
        bundle = _whole_bundle(folder, made.get("sha256")) if made.get("key") == key else None
        if bundle is not None:
            if (folder / LOCK_FILE).exists():  # of a run that was killed when all was written
                with writing(folder):
                    pass
            write_stamp(stamp, made, {"key": key, "sha256": bundle.sha256})  # the killed run may not have come to it
        return bundle

    def make_bundle(self, name: str, key: str, make: Callable[[Path], MaskBundle]) -> None:
        """`make(folder)` continues an unfinished bundle of the same key; one of another key is deleted first."""
        folder, stamp = self._bundle_places(name)
        made = stamped(stamp)
        if made.get("key") != key or (folder / "bundle.json").exists():
            stamp.unlink(missing_ok=True)
            made = {}
            delete(folder)
        write_stamp(stamp, made, {"key": key})
        write_stamp(stamp, {}, {"key": key, "sha256": make(folder).sha256})

    def _bundle_places(self, name: str) -> tuple[Path, Path]:
        return self.folder / "masks" / name, self.folder / "masks" / f"{name}.json"


def part_name(name: str, number: int) -> str:
    return f"{name}/{number:05d}"


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    """Raises UserError without pyarrow."""
    buffer = io.BytesIO()
    try:
        frame.to_parquet(buffer, index=False)
    except ImportError:
        raise UserError(
            "parts of a sweep are written as Parquet where the study runs, and this worker lacks pyarrow: pip install "
            "'prunesim[parquet]'"
        ) from None
    return buffer.getvalue()


def _whole_bundle(folder: Path, sha256: str | None) -> MaskBundle | None:
    if not (folder / "bundle.json").exists():
        return None
    try:
        bundle = MaskBundle.open(folder)
    except UserError as error:
        warn(f"{folder} is damaged ({error}); the step is run again")
        return None
    if sha256 not in (None, bundle.sha256):
        warn(f"{folder / 'bundle.json'} was changed after it was written; the step is run again")
        return None
    return bundle


def stamped(stamp: Path) -> dict[str, Any]:
    """What a stamp says; nothing where there is none, or none that can be read."""
    try:
        content = read_json(stamp, "study step")
    except UserError:
        return {}
    return content if isinstance(content, dict) else {}


def write_stamp(stamp: Path, before: dict[str, Any], content: dict[str, Any]) -> None:
    if content != before:
        write_text(stamp, pretty_json(content))


def delete(folder: Path) -> None:
    """Raises UserError where the folder of old masks cannot be removed."""
    try:
        if folder.is_symlink():
            folder.unlink()
        elif folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise UserError(
            f"cannot delete {folder}, masks of other settings: {error.strerror or error}; delete it or choose another "
            f"`out`"
        ) from None
