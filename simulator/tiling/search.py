"""The choice among mappings, one rule for every accelerator, masked layer and dense baseline alike.

A design enumerates what fits its buffers as `Choices`: a lower bound of the cycles of each mapping, what it costs, and
a way to walk one through, which gives its true cycles. `mapping.objective` says which is taken:

    latency   of all within NEAR = 1/64 of the fewest cycles, the one of least energy
    energy    the one of least energy
    edp       the one of least energy x cycles

Energy stands for bytes over the DRAM port where a model counts no energy. Energies do not depend on the bandwidth, and
no mapping gets slower with more of it. So, under "latency", with more bandwidth the chosen one takes at most 1/64 more
cycles; and it takes more energy only where the old one fell out of the band, as others became faster than it by more
than 1/64.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from simulator.machine.parts import Objective
from workloads.errors import UserError

NEAR = 1 / 64
MOST_CYCLES = 10**18


class Mapped(Protocol):
    @property
    def cycles(self) -> int: ...


M = TypeVar("M", bound=Mapped)


@dataclass(frozen=True)
class Choices(Generic[M]):
    """Mappings that fit, as columns (n,): bound_cycles, which no walk goes below; cost, in pJ or bytes; walk(i) gives
    the mapping."""

    bound_cycles: np.ndarray
    cost: np.ndarray
    walk: Callable[[int], M]


def best(tables: Sequence[Choices[M]], objective: Objective) -> M:
    """The mapping that the objective asks for, exactly; of equals the one with the lower bound, then the first.

    At least one table must hold a choice. Raises UserError where cycles would not fit 64-bit integers.
    """
    candidates = _Candidates(tables)
    if candidates.bounds.min() >= MOST_CYCLES:
        raise UserError(
            f"a layer takes more than {MOST_CYCLES:.0e} cycles; give fewer tokens, or look at clock.mhz and dram.*"
        )
    if objective == "latency":
        return _cheapest_of_the_fast(candidates)
    return _least(candidates, candidates.cost * candidates.bounds if objective == "edp" else candidates.cost, objective)


class _Candidates(Generic[M]):
    """All tables as one, with what was walked so far."""

    def __init__(self, tables: Sequence[Choices[M]]):
        self.bounds = np.concatenate([table.bound_cycles for table in tables])
        self.cost = np.concatenate([table.cost for table in tables])
        self._tables = tables
        self._starts = np.cumsum([0, *(len(table.cost) for table in tables)])
        self._walked: dict[int, M] = {}

    def walked(self, i: int) -> M:
        if i not in self._walked:
            table = int(np.searchsorted(self._starts, i, side="right")) - 1
            self._walked[i] = self._tables[table].walk(i - int(self._starts[table]))
        return self._walked[i]

    def seen(self, i: int) -> bool:
        return i in self._walked


def _least(candidates: _Candidates[M], values: np.ndarray, objective: Objective) -> M:
    """Least energy (then fewest cycles), or least energy x cycles; `values` are it, or a lower bound of it."""
    order = np.lexsort((candidates.bounds, values))
    found, least = candidates.walked(int(order[0])), np.inf
    for i in order.tolist():
        if values[i] > least:
            break
        layer = candidates.walked(i)
        value = candidates.cost[i] * layer.cycles if objective == "edp" else values[i]
        if value < least or (value == least and layer.cycles < found.cycles):
            found, least = layer, value
    return found


def _cheapest_of_the_fast(candidates: _Candidates[M]) -> M:
    """Walks the cheap ones that may be near enough, and the fast ones as far as that question needs it."""
    bounds = candidates.bounds
    by_bound = np.argsort(bounds, kind="stable")
    place = 0  # all of by_bound before it are walked
    fewest = candidates.walked(int(by_bound[0])).cycles
    near = np.flatnonzero(bounds <= fewest * (1 + NEAR))
    for i in near[np.lexsort((bounds[near], candidates.cost[near]))].tolist():
        if bounds[i] > fewest * (1 + NEAR):
            continue
        layer = candidates.walked(i)
        fewest = min(fewest, layer.cycles)
        while layer.cycles <= fewest * (1 + NEAR):
            while place < len(by_bound) and candidates.seen(int(by_bound[place])):
                place += 1
            unseen = bounds[by_bound[place]] if place < len(by_bound) else np.inf
            if layer.cycles <= min(unseen, fewest) * (1 + NEAR):
                return layer
            fewest = min(fewest, candidates.walked(int(by_bound[place])).cycles)
    raise AssertionError("the fewest cycles are near themselves")
