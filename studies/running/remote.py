"""What is sent to an executor: one task, made in this process or in another one, maybe on another machine."""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from studies.progress import ProgressLine
from studies.running.code import code_sha256
from studies.running.store import Store
from studies.running.task import Task
from studies.telling import warnings_spelled
from workloads.errors import UserError

ROOMS = ("workloads", "checkpoints", "pruning", "simulator", "studies")


@dataclass(frozen=True)
class Origin:
    """Where a job comes from: relative paths are meant from `folder`, and its key is of the code of `code_sha256`."""

    folder: str
    code_sha256: str


def origin() -> Origin:
    return _origin(os.getcwd())


@lru_cache(maxsize=4)
def _origin(folder: str) -> Origin:
    return Origin(folder, code_sha256(ROOMS))


def make(task: Task, store: Store, key: str, inputs: Sequence[Any], progress: ProgressLine) -> None:
    """In this process."""
    with warnings_spelled():
        task.make(store, key, inputs, progress)


def make_there(
    origin: Origin, task: Task, store: Store, key: str, inputs: Sequence[Any], progress: ProgressLine
) -> None:
    """In another process. Raises UserError as `arrive`."""
    arrive(origin)
    make(task, store, key, inputs, progress)


def arrive(origin: Origin) -> None:
    """This process's folder becomes that of the one a job comes from. Raises UserError where that folder is not, or the
    code another, so that no result stands under the key of code that did not make it."""
    try:
        if os.getcwd() != origin.folder:
            os.chdir(origin.folder)
    except OSError as error:
        raise UserError(
            f"the worker on {socket.gethostname()} has no folder {origin.folder} ({error.strerror or error}); run the "
            "study in a folder that all workers see"
        ) from None
    if code_sha256(ROOMS) != origin.code_sha256:
        raise UserError(
            f"the worker on {socket.gethostname()} has another version of prunesim than the process that runs the "
            "study; install the same on both"
        )
