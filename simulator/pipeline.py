"""The double-buffer recurrence: tiles walk through load -> compute -> store over one DRAM port."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def double_buffered(load: np.ndarray, compute: np.ndarray, store: np.ndarray) -> int:
    """Cycle at which the last tile is computed and stored; the arrays are (tiles,) int64 cycles, in execution order.

    store[i] > 0 marks the last tile of an output group and is the time its results take to leave. The rules:
      * one port, in order: load 0, load 1, store of 0 (if any), load 2, store of 1, ...
      * load i waits until compute i-2 has freed its half of the input buffers;
      * compute i follows compute i-1 and load i, and an output group waits until the store of the group before last
        has freed its half of the output buffer;
      * a store waits for the compute of its tile.
    """
    port = 0
    computed = 0  # end of compute i-1
    computed_before = 0  # end of compute i-2
    stored = 0  # end of the latest store issued
    for i in range(load.shape[0]):
        port = max(port, computed_before) + load[i]
        ready = max(port, computed)
        if i > 0 and store[i - 1] > 0:
            port = max(port, computed) + store[i - 1]
            ready = max(ready, stored)
            stored = port
        computed_before = computed
        computed = ready + compute[i]
    return max(port, computed) + store[-1]
