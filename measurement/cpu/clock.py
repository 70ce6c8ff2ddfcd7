"""How long calls take on the CPU, when other programs want it too.

All candidates take turns within a round, so that what disturbs one disturbs its neighbours: only times of one run are
compared. The figure is the least time of all rounds, as interruptions only ever add; median over least is the spread,
and tells whether there were too many of them.

* cold: before every call a buffer larger than the last cache is read, so weights come from DRAM, as in a model whose
  other layers ran in between.
* warm: the call once untimed, then as many in a row as fill SAMPLE_US; weights that fit a cache are found there.

`now` and the calls are handed in, so that a test has a clock of its own.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol

import torch

from measurement.timing import Call, Samples

SAMPLE_US = 100.0
MOST_REPEATS = 64
MOST_FLUSHED = 1 << 30


class RoundClock(Protocol):
    """What times candidates together, one Samples each."""

    def cold(self, calls: Sequence[Call], rounds: int) -> list[Samples]: ...

    def warm(self, calls: Sequence[Call], rounds: int) -> list[Samples]: ...


class HostClock:
    """The monotonic clock of the system."""

    def __init__(self, cache_bytes: int, now: Callable[[], int] = time.perf_counter_ns):
        """`cache_bytes`: of the last cache; twice as much is read to empty it, MOST_FLUSHED at most."""
        self._buffer = torch.ones(min(2 * cache_bytes, MOST_FLUSHED) // 4)
        self._now = now

    def cold(self, calls: Sequence[Call], rounds: int) -> list[Samples]:
        def one(call: Call) -> float:
            self._buffer.sum()
            return self._times_us(call, 1)

        return _in_turn(calls, rounds, one, "one call")

    def warm(self, calls: Sequence[Call], rounds: int) -> list[Samples]:
        repeats = {id(call): self._repeats(call) for call in calls}

        def one(call: Call) -> float:
            call()
            return self._times_us(call, repeats[id(call)])

        found = _in_turn(calls, rounds, one, "")
        return [
            Samples(each.times_us, f"{repeats[id(call)]} in a row") for call, each in zip(calls, found, strict=True)
        ]

    def _times_us(self, call: Call, repeats: int) -> float:
        before = self._now()
        for _ in range(repeats):
            call()
        return (self._now() - before) / 1e3 / repeats

    def _repeats(self, call: Call) -> int:
        call()
        least = min(self._times_us(call, 1) for _ in range(3))
        return max(1, min(MOST_REPEATS, round(SAMPLE_US / max(least, 1e-3))))


def _in_turn(calls: Sequence[Call], rounds: int, one: Callable[[Call], float], how: str) -> list[Samples]:
    for call in calls:
        one(call)  # the first call of a kernel builds what later ones reuse
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, own in zip(calls, times, strict=True):
            own.append(one(call))
    return [Samples(tuple(own), how) for own in times]


@contextmanager
def pinned(threads: int) -> Iterator[str]:
    """Within, PyTorch computes with so many threads, this process stays on as many cores where the system can do that,
    and denormal numbers are zeros. Yields which cores, "" where they could not be chosen."""
    before, cores = torch.get_num_threads(), _affinity()
    torch.set_num_threads(threads)
    flushed = torch.set_flush_denormal(True)
    chosen = set(sorted(cores)[-threads:])
    _stay_on(chosen)
    try:
        yield ",".join(map(str, sorted(chosen)))
    finally:
        _stay_on(cores)
        if flushed:
            torch.set_flush_denormal(False)
        torch.set_num_threads(before)


def stay_together() -> None:
    """Threads that a library began, too, stay on the cores that this process may use."""
    _stay_on(_affinity())


def _affinity() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def _stay_on(cores: set[int]) -> None:
    """Every thread there is: those of OpenMP outlive what started them."""
    for thread in os.listdir("/proc/self/task") if cores and os.path.isdir("/proc/self/task") else []:
        with suppress(OSError):  # ended meanwhile
            os.sched_setaffinity(int(thread), cores)
