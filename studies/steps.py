"""The results of a study's steps on disk, each beside the hash of what it was made from: unchanged ones are not made again,
so a killed study goes on where it was."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from studies.progress import ProgressLine
from studies.report import read_rows
from workloads.bundle import MaskBundle
from workloads.files import pretty_json, read_json, sha256_of, sha256_of_file, write_text
from workloads.rows import Column


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
        self, name: str, key: list[Any], columns: tuple[Column, ...], make: Callable[[], pd.DataFrame]
    ) -> pd.DataFrame:
        """Rows made from `key`."""
        file, stamp = self.out / "steps" / f"{name}.csv", self.out / "steps" / f"{name}.json"
        digest = sha256_of(key)
        if file.exists() and self._stamped(stamp, digest):
            self.unchanged += 1
            return read_rows(file, columns)
        self._note()
        frame = make()
        write_text(file, frame.to_csv(index=False))
        write_text(stamp, pretty_json({"key": digest}))
        return frame

    def bundle(self, folder: Path, key: str, make: Callable[[], MaskBundle]) -> MaskBundle:
        """The masks made from `key`; an unfinished bundle of them is continued, one of another key deleted first."""
        stamp = folder.with_name(folder.name + ".json")
        if not self._stamped(stamp, key):
            shutil.rmtree(folder, ignore_errors=True)
            write_text(stamp, pretty_json({"key": key}))
        if (folder / "bundle.json").exists():
            self.unchanged += 1
            return MaskBundle.open(folder)
        self._note()
        return make()

    def sha256(self, file: Path) -> str:
        """Hash of a file, read once."""
        if file not in self._hashes:
            self._hashes[file] = sha256_of_file(file)
        return self._hashes[file]

    def end(self) -> None:
        self.progress.close()
        if self.unchanged:
            sys.stderr.write(f"{self.unchanged} of {self.count} steps were unchanged and not run again\n")

    def _stamped(self, stamp: Path, key: str) -> bool:
        return stamp.exists() and read_json(stamp, "study step").get("key") == key

    def _note(self) -> None:
        self.progress.close()
        sys.stderr.write(f"[{self._number}/{self.count}] {self._what}\n")
