"""Executors by name: ours, an installed package's, or a function in a file of your own."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from studies.executors.asked import StudyExecutor
from studies.executors.dask_workers import dask
from studies.executors.executor import Here, ended
from studies.executors.processes import Processes
from studies.executors.submitit_jobs import submitit
from workloads.errors import UserError, one_line
from workloads.plugins import Wanted, find

Opener = Callable[[StudyExecutor, int, Path, Path], AbstractContextManager[Executor]]


@contextmanager
def processes(asked: StudyExecutor, workers: int, out: Path, beside: Path) -> Iterator[Executor]:
    """One worker is this process itself."""
    with ended(Here() if workers == 1 else Processes(workers)) as executor:
        yield executor


EXECUTORS: dict[str, Opener] = {"processes": processes, "dask": dask, "submitit": submitit}
WORKERS = {"processes": 1, "dask": 2, "submitit": 100}  # where nobody says how many


@contextmanager
def opened(asked: StudyExecutor, out: Path, beside: Path) -> Iterator[Executor]:
    """The executor that a study asks for; `out`: its folder, `beside`: that of the study file. Ends it with the
    context, and what it runs where that ends by an error. Raises UserError for one that cannot be had."""
    asked.check()
    if asked.name in EXECUTORS:
        with EXECUTORS[asked.name](asked, asked.workers or WORKERS[asked.name], out, beside) as executor:
            yield executor
        return
    with ended(_made(asked)) as executor:
        yield executor


def check_executor(asked: StudyExecutor) -> None:
    """Raises UserError for settings that cannot be and a name that stands for nothing; starts nothing."""
    asked.check()
    if asked.name not in EXECUTORS:
        _function(asked.name)


class _Function(Wanted):
    def checked(self, found: Any, where: str) -> Any:
        """Raises UserError for what cannot be called."""
        if not callable(found):
            raise UserError(f"{where} is no function that returns a concurrent.futures.Executor")
        return found


def _function(name: str) -> Callable[..., Any]:
    return find(_Function("executors", Executor, EXECUTORS), name)


def _made(asked: StudyExecutor) -> Executor:
    try:
        made = _function(asked.name)(**asked.set)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"executor: {asked.name} failed: {type(error).__name__}: {one_line(error)}") from None
    if not isinstance(made, Executor):
        raise UserError(
            f"executor: {asked.name} returned a {type(made).__name__}, not a concurrent.futures.Executor; of Dask "
            "return client.get_executor()"
        )
    return made
