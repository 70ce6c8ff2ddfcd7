"""The ViTCoD machine at level "cycle": lanes, metadata, buffered tiles and DRAM, for any number of tokens.

Source: ViTCoD (HPCA 2023) for the two engines, clock, buffers and bandwidth; the array size is BESA's port of it.
The linear y = x W^T runs tile by tile: a tile is tile_rows outputs x tile_cols inputs x tile_tokens tokens, in the
order tokens (outer), outputs, inputs (inner, partial sums stay on chip).

Compute, a token of a tile. The array's `width` lanes are split for a whole layer:
  * denser engine, w lanes: the tile's g dense columns without metadata, zeros included:
    ceil(tile_rows / w) * ceil(g / height) cycles;
  * sparser engine, width - w lanes: row i of the tile runs on lane i mod (width - w), `height` kept weights a cycle
    into one adder tree, so a row with c kept weights takes ceil(c / height); the slowest lane counts.
  The engines run side by side, the slower one ends the tile, and w is in proportion to their MACs.

Memory: bytes of kept weights, their groups' scales, metadata, inputs and outputs over one DRAM port (`engine.walk`);
weights and scales share a buffer. On chip, every token of a tile reads the tile's weights, scales and metadata once; an
input once for every kept weight of the sparser engine, and once for every w rows of the denser one, whose lanes share
it; every engine that has columns in a tile adds a sum to each of its outputs (a read, but for the first, and a write),
and finished sums are read once more. A tile takes as long as the array or the slowest of its buffers, where
`buffers.*_bytes_per_cycle` limits them. The compiler tries every threshold and tile size that fits the buffers
(`tiling.tilings`) and picks by `search`'s rule.

Deviations and approximations: ViTCoD published attention, not linear layers; its third 53 KiB buffer idles here.
Metadata is a bitmap over the sparse columns by default ("coordinate" is the publication's kind). Zero inputs are not
skipped. Adder-tree latency and drain once a layer are left out, bank conflicts too; with dram.device = generic so are
DRAM row effects (`dram.efficiency` stands for them). Each engine's sums are counted for all rows of a tile, also where
a row keeps nothing. A pruned weight moved from the denser to the sparser side can cost cycles, so fewer weights are not
guaranteed to be faster. More bandwidth or larger buffers never cost more than 1/64: every tiling they allow gets no
slower, only the choice among near-equals may change. In RTL (docs/validation/rtl.md) a tile without any work has the
array for a cycle, counted as none here, and the store of an output group can wait for the pipeline, 2 + ceil(log2
height) cycles. A lane sees its whole row of the tile at once: one that sees 64 columns a cycle takes a cycle for each
64 in which anything is kept, so that 64 MACs a lane then gain nothing from half-pruned rows, and 8 MACs little less
than here.
"""

import math

import numpy as np

from simulator.accelerators.accelerator import Accelerator, Values
from simulator.accelerators.vitcod.shapes import shapes_of
from simulator.accelerators.vitcod.spec import VitcodSpec
from simulator.accelerators.vitcod.tiling import Schedule, tilings
from simulator.cycles import Infeasible, LayerCycles
from simulator.formats import block_sides
from simulator.statistics import Statistics
from simulator.tiling.search import NEAR, Choices, best
from simulator.work import Work
from workloads import bits
from workloads.errors import UserError
from workloads.mask import PackedMask


class Vitcod(Accelerator):
    name = "vitcod"
    reuses_halo = True
    spec_type = VitcodSpec
    spec: VitcodSpec
    notes = (
        "ViTCoD published attention, not linear layers: the mapping of a linear layer onto its two engines is ours.",
        "Quantized weights take their own bits on both sides, and the scales and zero points of their groups are moved "
        "with them.",
        "Zero inputs are multiplied like others: the activation density changes no cycles.",
        "Unless set otherwise, weights and activations take 8 bits on both the dense and the sparse side; metadata is "
        "one bit per position of the sparse columns (bitmap), or a column number per kept weight (engines.metadata = "
        "coordinate, the publication's kind).",
        "Tile widths are multiples of 64 inputs, tile heights lanes times powers of two; the best of these is taken.",
        "Unless set otherwise, on-chip buffers deliver what the array asks for, and DRAM its full bandwidth "
        "(dram.efficiency = 1) without row or bank effects; adder-tree latency and pipeline drain are left out.",
    )

    def geometry(self) -> list:
        return [self.spec.array.width, list(self.spec.engines.dense_thresholds)]

    def gather(self, mask: PackedMask, values: Values) -> dict[str, np.ndarray]:
        """The distinct divisions of the columns that the thresholds give, lanes in proportion to each engine's MACs.

        counts (divisions, rows, n_words) uint8: kept weights of the sparse columns in each run of 64; dense_cols
        (divisions, n_words): dense columns there; dense_lanes (divisions,).
        """
        column_counts = mask.column_counts()
        kept = int(column_counts.sum())
        counts: dict[int, np.ndarray] = {}  # by the number of dense columns: thresholds are nested
        dense_cols, dense_lanes = [], []
        for threshold in self.spec.engines.dense_thresholds:
            dense = column_counts > threshold * mask.rows
            if self.spec.array.width == 1 and not dense.all():
                dense[:] = False  # a single lane cannot be two engines
            n_dense = int(dense.sum())
            if n_dense in counts:
                continue
            sparse_work = kept - int(column_counts[dense].sum())
            dense_work = n_dense * mask.rows
            lanes = round(self.spec.array.width * dense_work / (dense_work + sparse_work)) if n_dense else 0
            if sparse_work and n_dense:
                lanes = min(max(lanes, 1), self.spec.array.width - 1)
            counts[n_dense] = bits.masked_word_counts(mask.words, bits.pack(~dense[None, :])[0])
            dense_cols.append(np.add.reduceat(dense, np.arange(0, mask.cols, 64), dtype=np.int64))
            dense_lanes.append(lanes)
        return {
            "counts": np.stack(list(counts.values())),
            "dense_cols": np.stack(dense_cols),
            "dense_lanes": np.array(dense_lanes, dtype=np.int64),
        }

    def dense(self, rows: int, cols: int) -> dict[str, np.ndarray]:
        """The unpruned layer: every column dense, all lanes in the denser engine, no metadata."""
        sides = block_sides(cols, 64)
        return {
            "counts": np.zeros((1, rows, len(sides)), dtype=np.uint8),
            "dense_cols": sides[None, :],
            "dense_lanes": np.array([self.spec.array.width], dtype=np.int64),
        }

    def layer(self, work: Work, statistics: Statistics) -> LayerCycles:
        """The best tiling over the thresholds."""
        if self.spec.mapping.order == "rows-outer":
            raise UserError(
                "mapping.order = rows-outer: vitcod keeps tokens as its outermost loop; set it to tokens-outer or best"
            )
        found: list[Choices[Schedule]] = []
        refusals: list[Infeasible] = []
        limit_cycles = math.inf
        for shapes in shapes_of(self.spec, statistics, work):
            try:
                choices = tilings(self.spec, shapes, work, limit_cycles)
            except Infeasible as refusal:
                refusals.append(refusal)
                continue
            if choices is not None:
                found.append(choices)
                if self.spec.mapping.objective == "latency":
                    fast = choices.walk(int(choices.bound_cycles.argmin()))
                    limit_cycles = min(limit_cycles, fast.cycles * (1 + NEAR))
        if not found:
            raise refusals[0]
        return best(found, self.spec.mapping.objective).layer()
