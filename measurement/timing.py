"""How long a call takes on the GPU, in two situations.

* cold: the second-level cache is overwritten before every run, so weights come from DRAM, as in a model whose other
  layers ran in between. Two CUDA events stand around the call; the overwriting before it takes longer than the host
  needs to launch the call, so launches are hidden and the time is the GPU's. What the overwriting leaves in the cache
  must be written back; part of that falls into the timed call.
* warm: the call many times in a row in one CUDA graph, so that small kernels are not timed by the host's launches;
  weights that fit the cache stay there, and long runs heat the card. The time is that of the graph over its repeats,
  the gap between kernels included. Where a call cannot be captured, a loop without a graph takes its place, and `how`
  says so.

Events resolve about 0.5 us, and a pair of them with nothing between is not 0: environment.py records that floor; it is
not subtracted.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

Call = Callable[[], Any]
RUNS = 50
WARM_SAMPLE_US = 400.0  # a sample of the warm situation lasts about this long
MOST_REPEATS = 64


@dataclass(frozen=True)
class Samples:
    """Times of single calls in us, in the order they were taken; `how` they were taken."""

    times_us: tuple[float, ...]
    how: str

    @property
    def median_us(self) -> float:
        return float(np.median(self.times_us))

    @property
    def least_us(self) -> float:
        return min(self.times_us)

    @property
    def spread(self) -> float:
        """Median over least: 1 where nothing interfered."""
        return self.median_us / self.least_us if self.least_us else float("inf")

    @property
    def p10_us(self) -> float:
        return float(np.percentile(self.times_us, 10))

    @property
    def p90_us(self) -> float:
        return float(np.percentile(self.times_us, 90))


class Clock(Protocol):
    """What times calls: the GPU's events, or a stand-in of a test."""

    def cold(self, call: Call, runs: int) -> Samples: ...

    def warm(self, call: Call, runs: int) -> Samples: ...


class CudaClock:
    """CUDA events on the current stream of the current device."""

    def __init__(self, cache_bytes: int):
        """`cache_bytes`: size of the second-level cache; four times as much is overwritten, 256 MiB at least."""
        self._buffer = torch.empty(max(4 * cache_bytes, 1 << 28) // 4, dtype=torch.int32, device="cuda")

    def cold(self, call: Call, runs: int) -> Samples:
        for _ in range(3):
            self._buffer.zero_()
            call()
        pairs = [_events() for _ in range(runs)]
        for start, end in pairs:
            self._buffer.zero_()
            start.record()
            call()
            end.record()
        return Samples(_times_us(pairs), "cold")

    def warm(self, call: Call, runs: int) -> Samples:
        one_us = self.cold(call, 3).median_us
        repeats = max(1, min(MOST_REPEATS, math.ceil(WARM_SAMPLE_US / max(one_us, 1e-3))))
        try:
            run, how = captured(call, repeats), f"graph of {repeats}"
        except RuntimeError:
            torch.cuda.synchronize()  # raises if the failure broke more than the capture

            def run() -> None:
                for _ in range(repeats):
                    call()

            how = f"loop of {repeats}, launches included"
        for _ in range(3):
            run()
        pairs = [_events() for _ in range(runs)]
        for start, end in pairs:
            start.record()
            run()
            end.record()
        return Samples(tuple(time / repeats for time in _times_us(pairs)), how)


def captured(call: Call, repeats: int = 1) -> Call:
    """A CUDA graph of `repeats` calls, ready to replay. Raises RuntimeError if the call cannot be captured."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # libraries allocate what they need outside the capture
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            call()
    return graph.replay


def _events() -> tuple[torch.cuda.Event, torch.cuda.Event]:
    return torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)


def _times_us(pairs: Sequence[tuple[torch.cuda.Event, torch.cuda.Event]]) -> tuple[float, ...]:
    torch.cuda.synchronize()
    return tuple(start.elapsed_time(end) * 1e3 for start, end in pairs)


def quickest(clock: Clock, named: Sequence[tuple[str, Call]]) -> tuple[str, Call]:
    """The alternative with the least median of five cold runs; one that fails to run loses. Raises RuntimeError if all
    fail."""
    if len(named) == 1:
        return named[0]
    best: tuple[float, str, Call] | None = None
    failure: RuntimeError | None = None
    for name, call in named:
        try:
            time_us = clock.cold(call, 5).median_us
        except RuntimeError as error:
            failure = error
            continue
        if best is None or time_us < best[0]:
            best = (time_us, name, call)
    if best is None:
        raise failure or RuntimeError("no algorithm to run")
    return best[1], best[2]
