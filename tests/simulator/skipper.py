"""Lanes that skip the zeros of weights: what somebody else would write, whole."""

from dataclasses import dataclass

import numpy as np

from simulator.accelerators.accelerator import Values
from simulator.accelerators.granular import GranularAccelerator
from simulator.machine.parts import Machine, Side
from simulator.statistics import Statistics
from simulator.tiling.granules import Granules, storage_arrays
from workloads.mask import PackedMask


@dataclass(frozen=True)
class Lanes:
    """Every lane has an output row, and all wait for each other behind every `depth` inputs."""

    lanes: Side
    depth: Side


@dataclass(frozen=True)
class SkipperSpec(Machine):
    array: Lanes

    @property
    def macs(self) -> int:
        return self.array.lanes


class Skipper(GranularAccelerator):
    name = "skipper"
    spec_type = SkipperSpec
    notes = ("A lane multiplies one kept weight a cycle and finds it for nothing.",)

    def geometry(self) -> list[int]:
        return [self.spec.array.lanes, self.spec.array.depth]

    def gather(self, mask: PackedMask, values: Values) -> dict[str, np.ndarray]:
        """A granule is a row for every lane by `depth` inputs; its slowest lane has the most kept weights."""
        array = self.spec.array
        runs = np.arange(0, mask.cols, array.depth)
        kept = np.add.reduceat(mask.to_dense(), runs, axis=1, dtype=np.int64)  # (rows, runs)
        steps = np.maximum.reduceat(kept, np.arange(0, mask.rows, array.lanes), axis=0)
        return storage_arrays("bitmap", mask, array.lanes, array.depth) | {"step_cycles": steps}

    def granules(self, statistics: Statistics) -> Granules:
        return Granules(**statistics.arrays, visit_cycles=np.zeros_like(statistics["step_cycles"]))
