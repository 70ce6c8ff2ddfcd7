"""Dual-side sparse tensor core: outer products of condensed weight columns and input rows, an SM of several such cores.

Source: Wang et al., "Dual-side Sparse Tensor Core" (ISCA 2021): outer product, bitmaps of two levels, skipping in units
of 8 rows and 16 columns; tasks of 16 x 16 x 1 in steps of 8 x 16 x 1 as the Uni-STC paper lists them; 128 MACs a core
and 512 KB of 116 words a cycle as in the Sparseloop artifact (Wu et al., MICRO 2022). Four cores make the 512 MACs of a
V100 SM.

Weights are the left operand. For a strip of `rows` outputs and `tokens` tokens a core goes through the inputs k one by
one: ceil(kept weights of the strip's column k / unit_rows) * ceil(nonzero inputs k of the tokens / tokens) cycles, and
none where either is empty. So 16 x 16 x 16 full takes 32 cycles; of weights kept at random with probability 1/2 a
column takes one step for nnz <= 8 (p = 0.60), else two: 1.40 of 2 on average, 1.43x, never the 2x of the kept MACs. The
`otcs` cores take neighbouring strips with the same tokens and wait for the slowest every `depth` inputs (ours: the
loads of a thread block). More zeros or more cores never add compute cycles. Sums stay in the cores; weights are read at
every step of `tokens`; a core reads the inputs of its nonempty weight columns. Weights are stored as kept values and
two bitmaps: one bit for each tile of `rows` x 16, and one a position in tiles that keep any.

Deviations and approximations: activation_density < 1 is statistical: nonzero inputs at independent random places, so
that column k of t tokens is empty with probability (1 - density)^t, and expected cycles are taken in closed form: the
mean over full and last token steps, within 1/8192, each tile rounded up to a cycle. Of the cores the one with the
largest expectation counts, which is at most the expectation of the slowest. Fewer than `tokens` tokens leave MACs of a
step idle. Inputs are moved, stored and read dense. Left out, and flattering sparse runs: bank conflicts of the
accumulation buffer and merging of sparse outer products into it (the dense mode has neither), bitmap decoding,
instruction issue. The paper's warp tile is 32 x 32, where inputs are skipped in halves of 32 tokens; array.rows = 32
gives its weight side alone.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from simulator.accelerators.accelerator import Values
from simulator.accelerators.dstc.kernels import strip_steps
from simulator.accelerators.granular import GranularAccelerator
from simulator.cycles import LayerCycles
from simulator.formats import block_sides
from simulator.machine.parts import Machine, Side
from simulator.statistics import Statistics
from simulator.tiling.granules import Granules
from simulator.tiling.mapper import Cut, best_layer
from simulator.work import Work
from workloads.mask import PackedMask

TILE_COLS = 16  # of the upper bitmap
STEP_UNIT = 1 << 12  # parts of a cycle in which expectations are kept


@dataclass(frozen=True)
class DstcArray:
    otcs: Annotated[int, Field(gt=0, le=4096)]
    rows: Annotated[int, Field(gt=0, le=64)]
    unit_rows: Annotated[int, Field(gt=0, le=64)]
    tokens: Side
    depth: Annotated[int, Field(gt=0, multiple_of=64)]


@dataclass(frozen=True)
class DstcSpec(Machine):
    array: DstcArray

    @property
    def macs(self) -> int:
        return self.array.otcs * self.array.unit_rows * self.array.tokens


class Dstc(GranularAccelerator):
    name = "dstc"
    spec_type = DstcSpec
    spec: DstcSpec
    skips_zero_inputs = True
    notes = (
        "One SM with its share of the DRAM bandwidth; a GPU has many, and its scheduler, caches and launch costs are "
        "not modelled here.",
        "Bank conflicts and merging in the accumulation buffer, bitmap decoding and instruction issue are left out, "
        "which flatters sparse runs.",
        "Sparse activations are statistical (independent random zeros), in expected cycles; they are moved and stored "
        "dense.",
    )

    def geometry(self) -> list[int]:
        return [self.spec.array.otcs, self.spec.array.rows, self.spec.array.unit_rows, self.spec.array.depth]

    def gather(self, mask: PackedMask, values: Values) -> dict[str, np.ndarray]:
        """Granules of otcs strips x depth inputs, (row groups, column groups): steps of the slowest strip, kept
        weights, bits of both bitmaps, weight columns that are not empty (added up over strips)."""
        array = self.spec.array
        steps, kept, bitmap_bits, occupied = strip_steps(
            mask.words, mask.cols, array.rows, array.unit_rows, array.otcs, array.depth, TILE_COLS
        )
        return self._sides(mask.rows, mask.cols) | {
            "steps": steps,
            "values": kept,
            "metadata_bits": bitmap_bits,
            "occupied": occupied,
        }

    def dense(self, rows: int, cols: int) -> dict[str, np.ndarray]:
        """Stored dense; the first strip of a granule is the highest, so the slowest."""
        sides = self._sides(rows, cols)
        strips = -(-sides["rows"] // self.spec.array.rows)
        highest = np.minimum(sides["rows"], self.spec.array.rows)
        values = sides["rows"][:, None] * sides["cols"]
        return sides | {
            "steps": -(-highest // self.spec.array.unit_rows)[:, None] * sides["cols"],
            "values": values,
            "metadata_bits": np.zeros_like(values),
            "occupied": strips[:, None] * sides["cols"],
        }

    def _sides(self, rows: int, cols: int) -> dict[str, np.ndarray]:
        array = self.spec.array
        return {"rows": block_sides(rows, array.rows * array.otcs), "cols": block_sides(cols, array.depth)}

    def layer(self, work: Work, statistics: Statistics) -> LayerCycles:
        occupied = occupied_share(work.tokens, self.spec.array.tokens, work.activation_density)
        return best_layer(self.spec, [Cut(self.granules(statistics, occupied), statistics)], work)

    def granules(self, statistics: Statistics, occupied: float = 1.0) -> Granules:
        """`occupied` stands in step_unit, so that sums over tiles serve every activation density."""
        array, values = self.spec.array, statistics["values"]
        reads = float(statistics["occupied"].sum()) / (values.shape[0] * float(statistics["cols"].sum()))
        return Granules(
            rows=statistics["rows"],
            cols=statistics["cols"],
            values=values,
            metadata_bits=statistics["metadata_bits"],
            step_cycles=statistics["steps"] * STEP_UNIT,
            visit_cycles=np.zeros(values.shape, dtype=np.int64),
            token_step=array.tokens,
            step_unit=round(STEP_UNIT / occupied),
            stationary="output",
            act_reads=reads,
        )


def occupied_share(tokens: int, step: int, density: float) -> float:
    """Expected share of the inputs that are nonzero for any token of a step, over all steps of `step` tokens and a
    shorter last."""
    full, rest = divmod(tokens, step)
    occupied = full * (1 - (1 - density) ** step) + (1 - (1 - density) ** rest)
    return occupied / (full + (rest > 0))
