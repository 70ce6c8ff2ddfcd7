"""Each variant of a benchmark in a process of its own: seconds and peak memory that nothing else has touched."""

import multiprocessing
import os
import resource
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Measured:
    seconds: float
    start_gb: float  # resident before the work, inputs included
    peak_gb: float
    result: Any = None

    @property
    def own_gb(self) -> float:
        return self.peak_gb - self.start_gb


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def measure(prepare: Callable[..., Callable[[], Any]], *args: Any) -> Measured:
    """Runs prepare(*args)() in a fresh process; the time is that of the returned function alone."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measured, (prepare, args))


def _end_with_the_parent() -> None:
    """A command that is killed leaves no work behind."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _measured(prepare: Callable[..., Callable[[], Any]], args: tuple[Any, ...]) -> Measured:
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    work = prepare(*args)
    start = peak_gb()
    began = time.perf_counter()
    result = work()
    return Measured(time.perf_counter() - began, start, peak_gb(), result)
