"""Where tasks run: here, one after the other, or on any `concurrent.futures.Executor`, be it processes or a cluster."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

from workloads.errors import UserError
from workloads.threads import VARIABLE, worker_count

MOST_WORKERS = 1024


class Here(Executor):
    """Runs what is submitted at once, in this process."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def opened(workers: int) -> Iterator[Executor]:
    """`Here` for one worker, else processes that share this machine's threads. Raises UserError for a number that is
    none."""
    if not 1 <= workers <= MOST_WORKERS:
        raise UserError(f"`workers` = {workers}: from 1 to {MOST_WORKERS}, at most as many as there are cores to use")
    if workers == 1:
        yield Here()
        return
    threads = max(1, worker_count() // workers)
    context = multiprocessing.get_context("spawn")  # threads and a torch in use do not survive a fork
    pool = ProcessPoolExecutor(workers, context, _begin, (threads,))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list((pool._processes or {}).values()):  # what was left half-made is continued by the next run
            process.terminate()
        raise
    pool.shutdown()


def _begin(threads: int) -> None:
    """Of a process of the pool: Ctrl-C is answered by the one that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ[VARIABLE] = str(threads)


def finished(futures: set[Future[Any]]) -> set[Future[Any]]:
    """At least one of them, as soon as there is one."""
    return wait(futures, return_when=FIRST_COMPLETED).done
