"""The double-buffer recurrence: tiles walk through load -> compute -> store over one DRAM port."""

import numpy as np
from numba import njit

# What the recurrence remembers between tiles, in cycles.
PORT, COMPUTED, COMPUTED_BEFORE, STORED, PENDING = range(5)


@njit(cache=True, nogil=True)
def walk(load: np.ndarray, compute: np.ndarray, store: np.ndarray, times: int, state: np.ndarray) -> None:
    """Sends the tiles through `times` times; the arrays are (tiles,) int64 cycles in execution order.

    store[i] > 0 marks the last tile of an output group and is the time its results take to leave. The rules:
      * one port, in order: load 0, load 1, store of 0 (if any), load 2, store of 1, ...
      * load i waits until compute i-2 has freed its half of the input buffers;
      * compute i follows compute i-1 and load i, and an output group waits until the store of the group before last
        has freed its half of the output buffer;
      * a store waits for the compute of its tile.
    `state` (5,) int64, zeros at the start, is updated: end of the port's work, of the latest compute, of the one before, of
    the latest store issued, and the store still to be issued.

    Only sums and maxima are taken, so once a pass shifts every time by the same amount all later passes do: the rest is
    added up at once, exactly.
    """
    before = np.empty_like(state)
    for done in range(times):
        before[:] = state
        for i in range(load.shape[0]):
            port = max(state[PORT], state[COMPUTED_BEFORE]) + load[i]
            ready = max(port, state[COMPUTED])
            if state[PENDING] > 0:
                port = max(port, state[COMPUTED]) + state[PENDING]
                ready = max(ready, state[STORED])
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


def end_of(state: np.ndarray) -> int:
    """Cycle at which the last tile is computed and stored."""
    return int(max(state[PORT], state[COMPUTED]) + state[PENDING])


def double_buffered(load: np.ndarray, compute: np.ndarray, store: np.ndarray) -> int:
    """Cycles of one walk through the tiles."""
    state = np.zeros(5, dtype=np.int64)
    walk(load, compute, store, 1, state)
    return end_of(state)
