"""Matrix engine of a CPU core with row-wise N:4 weights: a row of a tile runs at the smallest of 1:4, 2:4, 4:4 for it.

Source: Jeong et al., "VEGETA: Vertically-Integrated Extensions for Sparse/Dense GEMM Tile Acceleration on CPUs" (HPCA
2023). The engine keeps 512 weights: 32 lanes of 16 MACs, and a lane covers 16 fours of inputs, so a tile is 64 inputs
deep. A row of the tile that keeps at most one weight of any aligned four takes one lane, at most two: two lanes, else
four. The cover is chosen for each row of a tile, not for whole rows of the matrix. That is how we read the paper, and
it is the reading that gives its numbers: for weights kept at random, 4 lanes over the expected lanes is 2.37 at 90 %
zeros and 3.29 at 95 %, and the paper reports 2.36 and 3.28. A row of a tile without any weight is covered by 1:4 and
takes a lane.

Rows are packed: of `group_rows` rows of a tile, those of equal cover are put side by side, wide ones first, and fill
the engine one filling after the other; the last filling may stay part empty (the published packing may differ; at 512
rows this costs a few percent at high sparsity). A filling is multiplied with `tokens` tokens in as many cycles, fewer
tokens take as long: the tile registers hold 16. Consecutive tiles of one filling skip loading weights again, and loads
are hidden by the double set of weight registers otherwise. Partial sums leave and enter with every filling.

Storage: N slots of every four of a row, filled or not, 2 bits of index each, and 2 bits of cover for every row of a
tile, from which the packed order follows. A granule whose rows all need 4:4 is stored and run dense, without metadata.

Deviations and approximations: the rest of the core is left out (instruction issue, tile loads through the caches, the
pipeline's filling and draining), so the published 1.09 over an older dense engine for 4:4 does not appear: our baseline
is this engine itself. The published speedups of whole layers, 2.20 (2:4) and 3.74 (1:4), contain that 1.09 and memory;
by the array alone they are 2 and 4. Buffers stand for the core's share of caches. Sparse activations bring nothing.
Fewer weights never add compute cycles, but can add bytes: a granule that needs 4:4 throughout
carries no metadata, one that needs less in a single row does.
"""

from dataclasses import dataclass

import numpy as np

from simulator.accelerators.accelerator import Values
from simulator.accelerators.granular import GranularAccelerator
from simulator.accelerators.nm.patterns import cover_counts, row_covers
from simulator.formats import block_sides
from simulator.machine.parts import Machine, Side
from simulator.statistics import Statistics
from simulator.tiling.granules import Granules, dense_storage
from workloads.mask import PackedMask

M = 4
COVERS = np.array([1, 2, 4], dtype=np.int64)
INDEX_BITS = COVER_BITS = 2


@dataclass(frozen=True)
class VegetaArray:
    """lanes x blocks MACs; a lane covers `blocks` fours of inputs. Rows are packed within `group_rows`."""

    lanes: Side
    blocks: Side
    tokens: Side
    group_rows: Side

    @property
    def depth(self) -> int:
        return M * self.blocks


@dataclass(frozen=True)
class VegetaSpec(Machine):
    array: VegetaArray

    @property
    def macs(self) -> int:
        return self.array.lanes * self.array.blocks


class Vegeta(GranularAccelerator):
    name = "vegeta"
    spec_type = VegetaSpec
    spec: VegetaSpec
    notes = (
        "Every row of a tile of 64 inputs is covered by the smallest of 1:4, 2:4 and 4:4 that holds it; a row without "
        "weights by 1:4.",
        "Rows of equal cover are packed side by side within groups of 512 outputs; the last engine filling of a group "
        "may stay part empty.",
        "The baseline is this engine on the unpruned layer, so the published 1.09 over an older dense engine is not in "
        "the speedup; the rest of the CPU is not modelled.",
        "Fewer than 16 tokens take as long as 16, the width of a tile register.",
    )

    def geometry(self) -> list[int]:
        array = self.spec.array
        return [array.lanes, array.blocks, array.tokens, array.group_rows]

    def gather(self, mask: PackedMask, values: Values) -> dict[str, np.ndarray]:
        array = self.spec.array
        counts = cover_counts(row_covers(mask.words, mask.cols, array.depth), array.group_rows)
        rows, cols = block_sides(mask.rows, array.group_rows), block_sides(mask.cols, array.depth)
        lanes = np.tensordot(COVERS, counts, axes=1)
        slots = lanes * -(-cols // M)
        whole = counts[2] == rows[:, None]
        return {
            "rows": rows,
            "cols": cols,
            "values": np.where(whole, rows[:, None] * cols, slots),
            "metadata_bits": np.where(whole, 0, slots * INDEX_BITS + rows[:, None] * COVER_BITS),
            "fillings": -(-lanes // array.lanes),
            "covers": counts.sum(axis=(1, 2)),
        }

    def dense(self, rows: int, cols: int) -> dict[str, np.ndarray]:
        """All rows at 4:4, but where a last tile of one or two inputs fits 1:4 or 2:4 even so."""
        array = self.spec.array
        arrays = dense_storage(rows, cols, array.group_rows, array.depth)
        covers = np.where(arrays["cols"] < 3, arrays["cols"], M)
        fillings = -(-np.outer(arrays["rows"], covers) // array.lanes)
        return arrays | {"fillings": fillings, "covers": rows * np.array([(covers == n).sum() for n in COVERS])}

    def note(self, statistics: Statistics) -> str:
        shares = statistics["covers"] / statistics["covers"].sum()
        return "row covers " + " + ".join(f"{share:.0%} {n}:{M}" for n, share in zip(COVERS, shares, strict=True))

    def granules(self, statistics: Statistics) -> Granules:
        return Granules(
            rows=statistics["rows"],
            cols=statistics["cols"],
            values=statistics["values"],
            metadata_bits=statistics["metadata_bits"],
            step_cycles=statistics["fillings"] * self.spec.array.tokens,
            visit_cycles=np.zeros_like(statistics["fillings"]),
            token_step=self.spec.array.tokens,
        )
