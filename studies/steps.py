"""The results of a study's steps on disk, each beside the hash of what it was made from and of itself: unchanged ones are not
made again, so a killed study goes on where it was; one that somebody edited, or that lost a file, is made again and named."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from studies.progress import ProgressLine, warn
from studies.report import read_rows
from workloads.bundle import MaskBundle
from workloads.columns.column import Column
from workloads.csv_text import csv_text
from workloads.errors import UserError
from workloads.files import LOCK_FILE, pretty_json, read_json, sha256_of, sha256_of_file, write_text
from workloads.locking import writing


class Steps:
    """`begin` a step, then ask for its rows or its bundle; `make` is called only where they are not there yet."""

    def __init__(self, out: Path, count: int, progress: ProgressLine):
        self.out = out
        self.count = count
        self.progress = progress
        self.unchanged = 0
        self._number = 0
        self._what = ""
        self._hashes: dict[Path, str] = {}

    def begin(self, what: str) -> None:
        """`what` is shown, with the step's number, when there is something to be made."""
        self._number += 1
        self._what = what

    def rows(
        self,
        name: str,
        key: list[Any],
        columns: tuple[Column, ...],
        make: Callable[[], pd.DataFrame],
        fresh: bool = False,
    ) -> pd.DataFrame:
        """Rows made from `key`; made again if `fresh`."""
        file, stamp = self.out / "steps" / f"{name}.csv", self.out / "steps" / f"{name}.json"
        digest = sha256_of(key)
        made = stamped(stamp)
        if made.get("key") == digest and file.is_file() and not fresh:
            if made.get("sha256") == sha256_of_file(file):
                self.unchanged += 1
                return read_rows(file, columns)
            self._made_again(file, "was changed after it was written")
        stamp.unlink(missing_ok=True)  # before the rows: no moment may show new rows under an old stamp
        self._note()
        frame = make()
        write_text(file, csv_text(frame))
        write_text(stamp, pretty_json({"key": digest, "sha256": sha256_of_file(file)}))
        return frame

    def bundle(self, folder: Path, key: str, make: Callable[[], MaskBundle]) -> MaskBundle:
        """The masks made from `key`; an unfinished bundle of them is continued, one of another key deleted first."""
        stamp = folder.with_name(folder.name + ".json")
        made = stamped(stamp)
        if made.get("key") == key:
            bundle = self._whole_bundle(folder, made.get("sha256"))
            if bundle is not None:
                self.unchanged += 1
                if (folder / LOCK_FILE).exists():  # of a run that was killed when all was written
                    with writing(folder):
                        pass
                write_stamp(
                    stamp, made, {"key": key, "sha256": bundle.sha256}
                )  # the killed run may not have come to it
                return bundle
        if made.get("key") != key or (folder / "bundle.json").exists():
            stamp.unlink(missing_ok=True)
            made = {}
            delete(folder)
        write_stamp(stamp, made, {"key": key})
        self._note()
        bundle = make()
        write_stamp(stamp, {}, {"key": key, "sha256": bundle.sha256})
        return bundle

    def _whole_bundle(self, folder: Path, sha256: str | None) -> MaskBundle | None:
        """None, after a word on it, where it is not as it was written; without one where it is not finished."""
        if not (folder / "bundle.json").exists():
            return None
        try:
            bundle = MaskBundle.open(folder)
        except UserError as error:
            self._made_again(folder, f"is damaged ({error})")
            return None
        if sha256 not in (None, bundle.sha256):
            self._made_again(folder / "bundle.json", "was changed after it was written")
            return None
        return bundle

    def sha256(self, file: Path) -> str:
        """Hash of a file, read once."""
        if file not in self._hashes:
            self._hashes[file] = sha256_of_file(file)
        return self._hashes[file]

    def end(self) -> None:
        self.progress.close()
        if self.unchanged:
            sys.stderr.write(f"{self.unchanged} of {self.count} steps were unchanged and not run again\n")

    def _made_again(self, what: Path, why: str) -> None:
        self.progress.close()
        warn(f"{what} {why}; the step is run again")

    def _note(self) -> None:
        self.progress.close()
        sys.stderr.write(f"[{self._number}/{self.count}] {self._what}\n")


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
            f"cannot delete {folder}, masks of other settings: {error.strerror or error}; delete it or choose another --out"
        ) from None
