"""Processes of this machine, one job each at a time, so that one that is killed takes no other job with it (in a
`ProcessPoolExecutor` it would take them all)."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from studies.executors.executor import WorkerLost
from workloads.threads import VARIABLE, worker_count


class Processes(Executor):
    """`workers` processes that share this machine's threads; each is started with its first job, and anew after it was
    lost. Futures raise WorkerLost where that happened."""

    def __init__(self, workers: int):
        self._share = max(1, worker_count() // workers)
        self._keepers = ThreadPoolExecutor(workers, "prunesim-worker")  # each waits for a process of its own
        self._own = threading.local()
        self._pools: list[ProcessPoolExecutor] = []

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self._keepers.submit(self._run, function, args, kwargs)

    def _run(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        pool = self._process()
        try:
            return pool.submit(function, *args, **kwargs).result()
        except BrokenProcessPool:
            self._own.pool = None
            pool.shutdown(wait=False)
            raise WorkerLost("its process ended, killed from outside or for want of memory") from None

    def _process(self) -> ProcessPoolExecutor:
        if getattr(self._own, "pool", None) is None:
            context = multiprocessing.get_context("spawn")  # threads and a torch in use do not survive a fork
            self._own.pool = ProcessPoolExecutor(1, context, _begin, (self._share,))
            self._pools.append(self._own.pool)
        return self._own.pool

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Without `wait` what runs is ended: what it left half-made is continued by the next run."""
        self._keepers.shutdown(wait=wait, cancel_futures=cancel_futures)
        for pool in self._pools:
            processes = list((pool._processes or {}).values())
            pool.shutdown(wait=wait, cancel_futures=cancel_futures)
            for process in [] if wait else processes:
                process.terminate()


def _begin(threads: int) -> None:
    """Of a process: Ctrl-C is answered by the one that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ[VARIABLE] = str(threads)
