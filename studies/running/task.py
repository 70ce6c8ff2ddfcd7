"""A task: one result of a study, a pure function of its inputs, found again by the hash of what it is made from."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from studies.progress import ProgressLine
from studies.running.store import Store
from workloads.files import sha256_of_file


@dataclass(frozen=True)
class Place:
    """Where the study file lies: paths in it are relative to its folder."""

    folder: Path

    def beside(self, name: str) -> Path:
        return self.folder / name

    def beside_or_name(self, name: str) -> str:
        """A path beside the study file if there is one, else the name itself (hub id, catalog or data set name)."""
        return str(self.beside(name)) if self.beside(name).exists() else name

    def text_sha256(self, name: str) -> str:
        """Of a file beside the study; the name itself of a data set, whose rows are not read for that."""
        file = self.beside(name)
        return file_sha256(file) if file.is_file() else name


def file_sha256(file: Path) -> str:
    """Hash of a file that is read once, as long as it stays as it is."""
    state = file.stat()
    return _file_sha256(file, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4096)
def _file_sha256(file: Path, size: int, changed_ns: int) -> str:
    return sha256_of_file(file)


class Task(ABC):
    """Settings and paths in a frozen dataclass (compared by identity), small and picklable, so that any process can
    make its result.

    `needs` are the tasks whose results, in that order, are the `inputs` of the functions below. A result that `find`
    does not give is written to the store by `make`, in this process or another, and then found. `counted`: a step for
    the user, with a number and a line when it is made.
    """

    needs: Sequence["Task"] = ()
    counted = True
    fresh = False  # made again, whatever is there

    @property
    @abstractmethod
    def title(self) -> str:
        """What is made, as progress shows it."""

    @abstractmethod
    def key(self, inputs: Sequence[Any]) -> str:
        """Hash of all that the result follows from, the code included. Raises UserError where it cannot be made at
        all."""

    @abstractmethod
    def find(self, store: Store, key: str, inputs: Sequence[Any]) -> Any | None:
        """The result, if it is there."""

    @abstractmethod
    def make(self, store: Store, key: str, inputs: Sequence[Any], progress: ProgressLine) -> None:
        """Writes the result to the store."""

    def parts(self, key: str, inputs: Sequence[Any]) -> Sequence["Task"]:
        """Tasks of the same inputs that make it piece by piece, where it is large; none: it is found and made as
        a whole. How it is cut does not depend on who makes them."""
        return ()

    def joined(self, store: Store, found: Sequence[Any]) -> Any:
        """The result, from what was found of its parts, in their order."""
        raise AssertionError("a task without parts is never joined")


class FreeTask(Task):
    """One whose result costs so little that it is computed where it is asked for and kept nowhere."""

    def key(self, inputs: Sequence[Any]) -> str:
        return ""

    def find(self, store: Store, key: str, inputs: Sequence[Any]) -> Any:
        return self.result(inputs)

    def make(self, store: Store, key: str, inputs: Sequence[Any], progress: ProgressLine) -> None:
        raise AssertionError("a free task is never made")

    @abstractmethod
    def result(self, inputs: Sequence[Any]) -> Any:
        """Computed in this process."""
