"""The port and the halves of buffers in RTL beside the engine's walk of tiles."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from simulator.engine import once
from simulator.engine import run as engine_run
from validation.rtl.job import Tile, WalkRun


@dataclass(frozen=True)
class Walked:
    """rtl: edges from reset to the last store; engine: the model's, of the same loads, stores and busy cycles;
    drained: the engine's rules with stores that wait until the pipeline has emptied."""

    rtl: int
    engine: int
    drained: int


def walked(tiles: list[Tile], ran: WalkRun, pipeline: int, beat_cycles: int, double: bool) -> Walked:
    load = np.array([tile.load_beats for tile in tiles]) * beat_cycles
    store = np.array([tile.store_beats for tile in tiles]) * beat_cycles
    busy = np.array([tile.busy for tile in ran.tiles])
    return Walked(
        ran.cycles, engine_run(once(load, busy, store), double), with_pipeline(load, busy, store, pipeline, double)
    )


def with_pipeline(load: Iterable[int], busy: Iterable[int], store: Iterable[int], pipeline: int, double: bool) -> int:
    """Cycle at which all is stored: the engine's rules (simulator/engine.py) as times in lists, but for `pipeline`
    cycles between a tile's last operands and the store of its group."""
    loads, computes, stores = list(map(int, load)), list(map(int, busy)), list(map(int, store))
    halves = 2 if double else 1
    ends: list[int] = []  # of tiles
    freed: list[int] = []  # of output groups
    port, group = 0, 0
    opened = True
    for i in range(len(loads)):
        port = max(port, ends[i - halves] if i >= halves else 0) + loads[i]
        begin = max(port, ends[-1] if ends else 0)
        if i and stores[i - 1]:
            port = max(port, ends[-1] + pipeline) + stores[i - 1]
            freed.append(port)
        if opened and group >= halves:
            begin = max(begin, freed[group - halves])
        ends.append(begin + computes[i])
        opened = stores[i] > 0
        group += opened
    return max(port, ends[-1] + pipeline) + stores[-1]
