"""The unpruned layer beside every masked one: the same machine, the same tokens, dense statistics shared between designs."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from simulator.cycles import Infeasible, LayerCycles, Outcome
from simulator.statistics import Statistics
from simulator.work import Work

Layer = Callable[[Any, Work, Statistics], LayerCycles]
DenseArrays = Callable[[Any, int, int], dict[str, np.ndarray]]


def outcome(spec: Any, work: Work, statistics: Statistics, geometry: Any, layer: Layer, dense: DenseArrays) -> Outcome:
    """`layer(spec, work, statistics)` of the mask, and of `dense(spec, rows, cols)`: the arrays that a full mask has in a dense
    format. Inputs are as sparse as in `work` on both sides. A layer that was left dense is its own baseline. Raises Infeasible where
    the mask's does not fit; where the full one alone does not, there is no baseline."""
    full = replace(work, nnz=work.rows * work.cols, left_dense=False)
    width = work.width(spec.number.weight_bits)
    if work.left_dense:
        unpruned = _dense_layer(spec, full, _Key(geometry), layer, dense)
        return Outcome(unpruned, unpruned, weight_bits=width)
    sparse = layer(spec, work, statistics)
    try:
        return Outcome(sparse, _dense_layer(spec, full, _Key(geometry), layer, dense), weight_bits=width)
    except Infeasible as error:
        return Outcome(sparse, None, weight_bits=width, no_baseline=f"no dense baseline, it does not fit: {error}")


class _Key:
    """A geometry (lists within lists) as a key of a cache."""

    def __init__(self, geometry: Any):
        self.geometry = geometry
        self.text = repr(geometry)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


class _Same(_Key):
    """A spec whose geometry is a key already."""

    def __init__(self, spec: Any):
        super().__init__("")
        self.spec = spec


@lru_cache(maxsize=64)
def _dense_statistics(geometry: _Key, rows: int, cols: int, dense: DenseArrays, spec: _Same) -> Statistics:
    return Statistics(dense(spec.spec, rows, cols))


@lru_cache(maxsize=4096)
def _dense_layer(spec: Any, work: Work, geometry: _Key, layer: Layer, dense: DenseArrays) -> LayerCycles:
    found = layer(spec, work, _dense_statistics(geometry, work.rows, work.cols, dense, _Same(spec)))
    return replace(found, stream=None)  # many are kept, none is traced
