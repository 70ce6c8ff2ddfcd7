"""SIGMA: kept weights packed side by side onto multipliers, inputs streamed past them, sums in a flexible adder tree.

Source: Qin et al., "SIGMA: A Sparse and Irregular GEMM Accelerator with Flexible Interconnects for DNN Training" (HPCA
2020); packing and ports as in STONNE's SIGMA-like controller (Munoz-Martinez et al., IISWC 2021); 32 MB of SRAM at 960
GB/s and DRAM at 1024 GB/s as in TeAAL (Nayak et al., MICRO 2023).

Weights are stationary. Rows go in order, a row's kept weights by increasing input, onto `num_ms` multipliers. A fold
takes whole rows while they fit; the row that does not fit opens the next fold and the left-over multipliers idle. A row
of more than num_ms kept weights opens a fold and is split: num_ms in its first piece, at most num_ms - 1 in the others,
where multiplier 0 carries the partial sum; a piece has its fold to itself. packing = "continuous" (our option) fills
left-over multipliers with the start of the next row, which continues in the next fold behind its partial sum. Each of
`dn_bw` ports feeds num_ms / dn_bw neighbouring multipliers, one value a cycle. With W kept weights in a port's group
and D distinct inputs among them, a fold's distribution takes max over ports of W + tokens * D cycles (port 0 of a
continuation sends a partial sum more for each token): 1 + tokens at dn_bw = num_ms. A fold computes for 1 cycle
(configure) + distribution + ceil(log2 num_ms) (adder tree) + 1 (drain).

Columns `folds` and `distribution_cycles` are of one pass of all tokens, whatever the loop order. A tile is a fold with
some of the tokens. "rows-outer": for fold: for token tile; weights stay, inputs are loaded once where all of them fit,
else those that a fold uses are loaded with it. "tokens-outer": for token tile: for fold; weights are loaded and
distributed again for each token tile. It is tried where it is asked for, or where not all inputs fit or no rows-outer
tile does. Of all that fit, `search` takes the best. Weights are a bitmap and kept values; a fold's inputs
leave the SRAM once and are multicast.

Deviations and approximations: TeAAL maps SIGMA in chunks of 128 inputs, which ask the SRAM for 128 values a token;
whole rows ask for every input that a fold uses, so with rows of thousands of inputs the 960 GB/s bind
(buffer_stall_cycles), not the multipliers; buffers.*_bytes_per_cycle = 0 lifts that. Zeros in the streamed inputs do
not shorten the stream, and inputs are stored dense. A fold has drained before the next fold's weights go out. The
bitmap is scanned as it passes: the index buffer holds one row of it, and scanning takes no cycle beyond the one to
configure. Rows without kept weights are stored as zeros, at no compute cycle. A token tile's share of its fold's
distribution is counted on the port that is slowest over all tokens. Conflicts on output wires are left out. More zeros
never add compute cycles at dn_bw = num_ms; at fewer ports they can, as every later weight moves to another multiplier
and inputs that met in one group may part. More multipliers make the tree deeper by a cycle a fold; at constant dn_bw
also the groups of a port larger: then they can be slower. The bound of the ports lets each of them run ahead of the
others: in RTL (docs/validation/rtl.md) it holds where multipliers queue as many products as there are tokens; with room
for one, small random layers took 6 % more cycles.
"""

import numpy as np

from simulator.accelerators.accelerator import Accelerator, Values
from simulator.accelerators.sigma import kernels
from simulator.accelerators.sigma.plans import folds_of, plans_of
from simulator.accelerators.sigma.spec import SigmaSpec
from simulator.cycles import LayerCycles
from simulator.machine.port import port_of
from simulator.statistics import Statistics
from simulator.tiling.search import Choices, best
from simulator.work import Work
from workloads.columns.column import Column
from workloads.errors import UserError
from workloads.mask import PackedMask


class Sigma(Accelerator):
    name = "sigma"
    reuses_halo = True
    spec_type = SigmaSpec
    spec: SigmaSpec
    columns = (
        Column("folds", "int", "times the multipliers are filled with kept weights"),
        Column("distribution_cycles", "int", "cycles in which the distribution network is busy, over all folds"),
    )
    notes = (
        "Zeros among the inputs do not shorten SIGMA's stream; activation_density is ignored.",
        "Distribution is the bound of the ports (STONNE's SIGMA-like controller without its output conflicts); folds "
        "are not overlapped.",
        "Folds hold whole rows, so every token brings all inputs that a fold uses: with long rows the SRAM's 960 GB/s "
        "bind before the multipliers do.",
        "folds and distribution_cycles are of one pass of all tokens; where inputs do not fit on chip, weights may be "
        "loaded several times.",
    )

    def geometry(self) -> list[int | str]:
        return [self.spec.array.num_ms, self.spec.array.dn_bw, self.spec.array.packing]

    def gather(self, mask: PackedMask, values: Values) -> dict[str, np.ndarray]:
        """Arrays of the folds: where they begin (folds + 1,), kept weights and distinct inputs (folds,), slowest ports
        (folds, 3).

        A mask without a kept weight has one fold of none, so that its outputs are still stored.
        """
        return self._folds(mask) | {"bitmap": np.ones(1, dtype=np.int64)}

    def dense(self, rows: int, cols: int) -> dict[str, np.ndarray]:
        return self._folds(PackedMask.dense(rows, cols)) | {"bitmap": np.zeros(1, dtype=np.int64)}

    def _folds(self, mask: PackedMask) -> dict[str, np.ndarray]:
        array = self.spec.array
        starts, row, before, length = kernels.pack(mask.row_counts(), array.num_ms, array.packing == "continuous")
        if len(starts) == 1:
            none, ports = np.zeros(1, dtype=np.int32), np.zeros((1, 3), dtype=np.int32)
            begins = np.array([0, mask.rows * mask.cols])
            return {"begins": begins, "kept": none, "inputs": none, "port_weights": ports, "port_inputs": ports}
        kept, inputs, port_weights, port_inputs = kernels.port_loads(
            mask.words, starts, row, before, length, array.num_ms // array.dn_bw
        )
        begins = kernels.positions(mask.words, mask.cols, starts, row, before)
        return {
            "begins": begins,
            "kept": kept,
            "inputs": inputs,
            "port_weights": port_weights,
            "port_inputs": port_inputs,
        }

    def layer(self, work: Work, statistics: Statistics) -> LayerCycles:
        """Raises Infeasible when not even one token a tile fits the buffers, UserError for tiles that are no folds."""
        mapping = self.spec.mapping
        for name, asked in (("tile_rows", mapping.tile_rows), ("tile_cols", mapping.tile_cols)):
            if asked:
                raise UserError(
                    f"mapping.{name} = {asked}: the tiles of sigma are its folds, which array.num_ms sets; leave it 0"
                )
        plans = plans_of(self.spec, work, folds_of(self.spec, work, statistics))
        port = port_of(self.spec.dram, self.spec.clock.mhz)
        bounds, energies = zip(*(plan.estimate(port) for plan in plans), strict=True)
        return best(
            [Choices(np.array(bounds), np.array(energies), lambda i: plans[i].layer(port))], self.spec.mapping.objective
        )
