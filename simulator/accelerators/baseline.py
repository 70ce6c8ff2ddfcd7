"""The unpruned layer beside every masked one: same machine, same tokens, dense statistics shared between designs."""

from collections.abc import Hashable
from dataclasses import replace
from functools import lru_cache
from typing import Any, Protocol

from simulator import answers
from simulator.cycles import Infeasible, LayerCycles, Outcome
from simulator.statistics import Statistics
from simulator.work import Work


class Design(answers.Design, Hashable, Protocol):
    """What of an `Accelerator` is asked here."""

    spec: Any


def beside_unpruned(design: Design, work: Work, statistics: Statistics) -> Outcome:
    """`design.layer` of the mask, and of `design.dense`. Inputs are as sparse as in `work` on both sides. A layer that
    was left dense is its own baseline. Raises Infeasible where the mask's does not fit; where the full one alone does
    not, there is no baseline."""
    full = replace(work, nnz=work.rows * work.cols, left_dense=False)
    width = work.width(design.spec.number.weight_bits)
    if work.left_dense:
        unpruned = _unpruned(design, full)
        return Outcome(unpruned, unpruned, weight_bits=width)
    sparse = answers.layer_of(design, work, statistics)
    try:
        return Outcome(sparse, _unpruned(design, full), weight_bits=width)
    except Infeasible as error:
        return Outcome(sparse, None, weight_bits=width, dense_refusal=error.refusal)


@lru_cache(maxsize=4096)
def _unpruned(design: Design, work: Work) -> LayerCycles:
    found = answers.layer_of(design, work, _dense_statistics(_Shared(design), work.rows, work.cols))
    return replace(found, stream=None)  # many are kept, none is traced


@lru_cache(maxsize=64)
def _dense_statistics(shared: "_Shared", rows: int, cols: int) -> Statistics:
    return Statistics(answers.arrays_of(shared.design, shared.design.dense(rows, cols), "dense"))


class _Shared:
    """A design as good as any other of its class and geometry (lists within lists)."""

    def __init__(self, design: Design):
        self.design = design
        self.key = (type(design), repr(design.geometry()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Shared) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)
