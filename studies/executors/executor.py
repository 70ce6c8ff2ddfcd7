"""What every executor is to a study: a `concurrent.futures.Executor`, and the error by which it says that a worker is
gone."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any

MOST_WORKERS = 1024  # processes of one machine


class WorkerLost(Exception):
    """The worker of a job ended without a result (killed, out of memory, its machine gone); the job may run again."""


@contextmanager
def ended(executor: Executor) -> Iterator[Executor]:
    """It is waited for; after an error, and Ctrl-C, what still runs is ended."""
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    executor.shutdown()


class Here(Executor):
    """Runs what is submitted at once, in this process."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
