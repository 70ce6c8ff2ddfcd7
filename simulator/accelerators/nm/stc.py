"""Sparse tensor core of one A100-class SM: 2:4 weights at twice the dense rate, anything else at the dense rate.

Source: Mishra et al., "Accelerating Sparse Deep Neural Networks" (arXiv 2104.08378) for 2:4 and its format; the SM's
1024 INT8 MACs, its 256 KB shared memory and the 42 bytes a cycle between shared memory and the cores are those of the
Sparseloop artifact's STC (Wu et al., MICRO 2022). An A100's SM has twice as many INT8 MACs, and 1024 for fp16
(array.macs). One SM has its share of the DRAM bandwidth.

The work is cut into granules of `rows` outputs x `depth` inputs, `tokens` tokens at a step. A step multiplies the whole
granule: rows * depth * tokens / macs cycles, edges padded; of a 2:4 mask only two of four, so half. The inputs of a
granule are read from shared memory once for all its rows, whatever the mask: at 2:4 they are needed twice as fast, and
the 42 bytes a cycle can bind. A mask that keeps more than two of any four inputs runs dense, stored dense, as the
hardware would run it.

Deviations and approximations: instruction issue, register files and bank conflicts are left out; a mask is 2:4 as a
whole or not at all (a library calls one kernel a matrix).
"""

from dataclasses import dataclass

import numpy as np

from simulator.accelerators.accelerator import Values
from simulator.accelerators.granular import GranularAccelerator
from simulator.cycles import ceil_div
from simulator.machine.parts import Machine, Side
from simulator.statistics import Statistics
from simulator.tiling.granules import Granules, dense_storage, storage_arrays
from workloads.mask import PackedMask

N, M = 2, 4


@dataclass(frozen=True)
class StcArray:
    macs: Side
    rows: Side
    depth: Side
    tokens: Side


@dataclass(frozen=True)
class StcSpec(Machine):
    array: StcArray

    @property
    def macs(self) -> int:
        return self.array.macs


class Stc(GranularAccelerator):
    name = "stc"
    spec_type = StcSpec
    spec: StcSpec
    notes = (
        "One SM with its share of the DRAM bandwidth; a GPU has many, and its scheduler, caches and launch costs are "
        "not modelled here.",
        "A mask runs at 2:4 as a whole, or dense where any run of four keeps more than two.",
    )

    def geometry(self) -> list[int]:
        return [self.spec.array.rows, self.spec.array.depth]

    def gather(self, mask: PackedMask, values: Values) -> dict[str, np.ndarray]:
        rows, depth = self.spec.array.rows, self.spec.array.depth
        if not mask.follows(N, M):
            return self.dense(mask.rows, mask.cols)
        return storage_arrays(f"{N}:{M}", mask, rows, depth) | {"follows": np.ones(1, dtype=np.int64)}

    def dense(self, rows: int, cols: int) -> dict[str, np.ndarray]:
        return dense_storage(rows, cols, self.spec.array.rows, self.spec.array.depth) | {
            "follows": np.zeros(1, dtype=np.int64)
        }

    def note(self, statistics: Statistics) -> str:
        return "2:4" if statistics["follows"][0] else "dense: keeps more than 2 of 4"

    def granules(self, statistics: Statistics) -> Granules:
        array = self.spec.array
        kept_of_four = N if statistics["follows"][0] else M
        step = ceil_div(array.rows * array.depth * array.tokens * kept_of_four, array.macs * M)
        shape = statistics["values"].shape
        return Granules(
            rows=statistics["rows"],
            cols=statistics["cols"],
            values=statistics["values"],
            metadata_bits=statistics["metadata_bits"],
            step_cycles=np.full(shape, step, dtype=np.int64),
            visit_cycles=np.zeros(shape, dtype=np.int64),
            token_step=array.tokens,
            stationary="output",
        )
