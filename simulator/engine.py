"""The engine: tiles walk through load -> compute -> store over one DRAM port, buffers double or single."""

from dataclasses import dataclass

import numpy as np
from numba import njit

# What the recurrence remembers between tiles, in cycles.
PORT, COMPUTED, COMPUTED_BEFORE, STORED, PENDING = range(5)


@dataclass(frozen=True)
class Stream:
    """The tiles of one execution in order. The arrays are (tiles,) int64 cycles; store[i] > 0 marks the last tile of an
    output group. `passes` (n, 3) int64: tiles start..stop-1 are walked through `times` times, one pass after the
    other."""

    load: np.ndarray
    compute: np.ndarray
    store: np.ndarray
    passes: np.ndarray

    @property
    def steps(self) -> int:
        """Tiles walked through, repetitions counted."""
        return int(((self.passes[:, 1] - self.passes[:, 0]) * self.passes[:, 2]).sum())

    def total(self, cycles: np.ndarray) -> int:
        """The sum of a (tiles,) array over all passes and repetitions."""
        ends = np.concatenate(([0], np.cumsum(cycles)))
        return int(((ends[self.passes[:, 1]] - ends[self.passes[:, 0]]) * self.passes[:, 2]).sum())


def once(load: np.ndarray, compute: np.ndarray, store: np.ndarray) -> Stream:
    """A stream of one pass."""
    return Stream(load, compute, store, np.array([[0, len(load), 1]], dtype=np.int64))


@njit(cache=True, nogil=True)
def walk(load: np.ndarray, compute: np.ndarray, store: np.ndarray, times: int, double: bool, state: np.ndarray) -> None:
    """Sends the tiles through `times` times. The rules:
      * one port, in order: load 0, load 1, store of 0 (if any), load 2, store of 1, ...
      * load i waits until a half of the input buffers is free: for compute i-2, or i-1 where they are single;
      * compute i follows compute i-1 and load i, and an output group waits until the store of the group before last has
        freed its half of the output buffer; single: until the store of the group before;
      * a store waits for the compute of its tile.
    `state` (5,) int64, zeros at the start, is updated: end of the port's work, of the latest compute, of the one
    before, of the latest store issued, and the store still to be issued.

    Only sums and maxima are taken, so once a pass shifts every time by the same amount all later passes do: the rest is
    added up at once, exactly.
    """
    before = np.empty_like(state)
    # `before` is the state a pass ago: where all times moved by the same shift, each further pass moves them by it
    # again
    for done in range(times):
        before[:] = state
        for i in range(load.shape[0]):
            port = max(state[PORT], state[COMPUTED_BEFORE] if double else state[COMPUTED]) + load[i]
            ready = max(port, state[COMPUTED])
            if state[PENDING] > 0:
                port = max(port, state[COMPUTED]) + state[PENDING]
                ready = max(ready, state[STORED] if double else port)
                state[STORED] = port
            state[PORT] = port
            state[COMPUTED_BEFORE] = state[COMPUTED]
            state[COMPUTED] = ready + compute[i]
            state[PENDING] = store[i]
        shift = state[PORT] - before[PORT]
        steady = state[PENDING] == before[PENDING]
        for k in (COMPUTED, COMPUTED_BEFORE, STORED):
            steady = steady and state[k] - before[k] == shift
        if steady:
            state[:PENDING] += shift * (times - done - 1)
            break


@njit(cache=True, nogil=True)
def _run(load: np.ndarray, compute: np.ndarray, store: np.ndarray, passes: np.ndarray, double: bool) -> int:
    state = np.zeros(5, dtype=np.int64)
    for p in range(passes.shape[0]):
        start, stop = passes[p, 0], passes[p, 1]
        walk(load[start:stop], compute[start:stop], store[start:stop], passes[p, 2], double, state)
    return max(state[PORT], state[COMPUTED]) + state[PENDING]


def run(stream: Stream, double: bool) -> int:
    """Cycle at which the last tile is computed and stored."""
    return int(_run(stream.load, stream.compute, stream.store, stream.passes, double))
