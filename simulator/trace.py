"""When every tile of a layer is loaded, computed and stored: as a Perfetto / Chrome trace, and as shares of time."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from simulator.engine import Stream
from workloads.errors import UserError

MOST_TILES = 200_000  # a trace of more is slow to open and says no more


@dataclass(frozen=True)
class Timeline:
    """(tiles walked, 2) int64 cycles, begin and end of each tile's load, compute and store; stores of no tile are empty
    spans. `tile` (tiles walked,) numbers the tiles within their pass over the weights."""

    tile: np.ndarray
    load: np.ndarray
    compute: np.ndarray
    store: np.ndarray

    @property
    def end(self) -> int:
        return int(max(self.compute[-1, 1], self.store[-1, 1])) if len(self.tile) else 0


@njit(cache=True, nogil=True)
def _times(load, compute, store, order, double):
    """The recurrence of engine.walk with every time kept; the arrays hold begin and end."""
    n = len(order)
    loads, computes, stores = np.zeros((n, 2), np.int64), np.zeros((n, 2), np.int64), np.zeros((n, 2), np.int64)
    # port: end of the port's work; stored: end of the latest store. The store of tile i - 1 is issued behind load i.
    port = stored = 0
    for i in range(n):
        k = order[i]
        gate = i - 2 if double else i - 1
        loads[i, 0] = max(port, computes[gate, 1] if gate >= 0 else 0)
        port = loads[i, 0] + load[k]
        loads[i, 1] = port
        computes[i, 0] = max(port, computes[i - 1, 1] if i else 0)
        if i > 0 and store[order[i - 1]] > 0:
            stores[i - 1, 0] = max(port, computes[i - 1, 1])
            port = stores[i - 1, 0] + store[order[i - 1]]
            stores[i - 1, 1] = port
            computes[i, 0] = max(computes[i, 0], stored if double else port)
            stored = port
        computes[i, 1] = computes[i, 0] + compute[k]
    if n:
        stores[n - 1, 0] = max(port, computes[n - 1, 1])
        stores[n - 1, 1] = stores[n - 1, 0] + store[order[n - 1]]
    return loads, computes, stores


def timeline(stream: Stream, double: bool) -> Timeline:
    """Raises UserError for a stream of more than MOST_TILES tiles."""
    if stream.steps > MOST_TILES:
        raise UserError(
            f"the layer is walked through in {stream.steps:,} tiles, a trace shows at most {MOST_TILES:,}; take fewer "
            "tokens, larger buffers, or larger tiles (mapping.tile_rows, mapping.tile_cols, mapping.tile_tokens)"
        )
    spans = [np.tile(np.arange(start, stop), times) for start, stop, times in stream.passes]
    order = np.concatenate(spans) if spans else np.zeros(0, np.int64)
    return Timeline(order, *_times(stream.load, stream.compute, stream.store, order, double))


def trace_events(line: Timeline, clock_mhz: float, name: str) -> dict[str, Any]:
    """The Trace Event Format, complete ("X") events, times in microseconds: a track for DRAM reads, the array, DRAM
    writes."""
    tracks = (("DRAM loads", line.load), ("array", line.compute), ("DRAM stores", line.store))
    events: list[dict[str, Any]] = [{"ph": "M", "pid": 1, "name": "process_name", "args": {"name": name}}]
    for thread, (track, spans) in enumerate(tracks, start=1):
        events.append({"ph": "M", "pid": 1, "tid": thread, "name": "thread_name", "args": {"name": track}})
        for tile, (begin, end) in zip(line.tile.tolist(), spans.tolist(), strict=True):
            if end > begin:
                events.append({
                    "ph": "X", "pid": 1, "tid": thread, "name": f"tile {tile}", "ts": begin / clock_mhz,
                    "dur": (end - begin) / clock_mhz, "args": {"cycles": end - begin},
                })  # fmt: skip
    return {"traceEvents": events, "displayTimeUnit": "ns", "otherData": {"clock_mhz": clock_mhz, "cycles": line.end}}


def busy_shares(line: Timeline, bins: int = 200) -> dict[str, np.ndarray]:
    """Share of each of `bins` equal spans of time in which a part is busy, 0..1: begin_cycles, array, loads, stores."""
    edges = np.linspace(0, line.end, bins + 1)
    shares = {"begin_cycles": edges[:-1]}
    for name, spans in (("array", line.compute), ("loads", line.load), ("stores", line.store)):
        shares[name] = np.diff(_busy_until(spans, edges)) / max(edges[1] - edges[0], 1e-12)
    return shares


def _busy_until(spans: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Busy cycles before each time; spans are in order and do not overlap."""
    spans = spans[spans[:, 1] > spans[:, 0]]
    if not len(spans):
        return np.zeros(len(times))
    points = np.concatenate(([0.0], spans.ravel().astype(float)))
    busy = np.concatenate(
        ([0.0], np.cumsum(np.stack([np.zeros(len(spans)), spans[:, 1] - spans[:, 0]], axis=1).ravel()))
    )
    return np.interp(times, points, busy)
