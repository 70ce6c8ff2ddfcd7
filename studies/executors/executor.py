"""What every executor is to a study: a `concurrent.futures.Executor`, and the error by which it says that a worker is
gone."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

MOST_WORKERS = 1024  # processes of one machine


class WorkerLost(Exception):
    """The worker of a job ended without a result (killed, out of memory, its machine gone); the job may run again."""


class Here(Executor):
    """Runs what is submitted at once, in this process."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
