"""Lane-skipping array: every lane holds one output's weights and skips the pruned ones, one kept weight a cycle.

`lanes` lanes take an output each; a window is `depth` inputs of them. A lane passes over its kept weights of the
window, one a cycle, and multiplies each with that input of `tokens` tokens at once. The lanes of a window wait for the
fullest: its kept weights are the window's cycles, and that is what an uneven mask costs. Weights are stored as a bitmap
and the kept values. Unpruned, every lane takes all inputs of the window.
"""

from dataclasses import dataclass

import numpy as np
from lane_skip_rtl import LaneSkipRtl
from lane_skip_twin import TWIN

from prunesim import PackedMask
from prunesim.machines import (
    GranularAccelerator,
    Granules,
    Machine,
    Side,
    Statistics,
    Values,
    dense_storage,
    storage_arrays,
)


@dataclass(frozen=True)
class LaneSkipArray:
    """The part of the spec that is this design's own; lane_skip.toml gives the values."""

    lanes: Side
    depth: Side
    tokens: Side


@dataclass(frozen=True)
class LaneSkipSpec(Machine):
    array: LaneSkipArray

    @property
    def macs(self) -> int:
        return self.array.lanes * self.array.tokens


class LaneSkip(GranularAccelerator):
    name = "lane-skip"
    spec_type = LaneSkipSpec
    spec: LaneSkipSpec
    notes = ("Lanes find the next kept weight in no time; the inputs of a window reach all lanes without conflicts.",)
    twin = TWIN
    rtl = (LaneSkipRtl,)

    def geometry(self) -> list[int]:
        """What `gather` depends on: designs that differ in tokens, buffers or DRAM share what was gathered."""
        return [self.spec.array.lanes, self.spec.array.depth]

    def gather(self, mask: PackedMask, values: Values) -> dict[str, np.ndarray]:
        """Kept weights of the fullest lane of every window, (row groups, windows), beside what is stored."""
        lanes, depth = self.spec.array.lanes, self.spec.array.depth
        counts = mask.tile_counts(1, depth)  # (outputs, windows)
        fullest = np.maximum.reduceat(counts, np.arange(0, mask.rows, lanes), axis=0)
        return storage_arrays("bitmap", mask, lanes, depth) | {"fullest": fullest}

    def dense(self, rows: int, cols: int) -> dict[str, np.ndarray]:
        """The same of the unpruned layer: no bitmap, and lanes that are all full."""
        stored = dense_storage(rows, cols, self.spec.array.lanes, self.spec.array.depth)
        return stored | {"fullest": np.tile(stored["cols"], (len(stored["rows"]), 1))}

    def granules(self, statistics: Statistics) -> Granules:
        """Windows as the mapper takes them: it finds tiles, loop order, traffic, stalls and energy from these."""
        fullest = statistics["fullest"].astype(np.int64)
        return Granules(
            rows=statistics["rows"],
            cols=statistics["cols"],
            values=statistics["values"],
            metadata_bits=statistics["metadata_bits"],
            step_cycles=fullest,
            visit_cycles=np.zeros_like(fullest),
            token_step=self.spec.array.tokens,
            stationary="output",  # sums stay in the lanes; weights are read anew for every step of tokens
        )
