"""SparTen: inner products of bitmask chunks, filters balanced over the compute units of a cluster.

Source: Gondimalla et al., "SparTen: A Sparse Tensor Accelerator for Convolutional Neural Networks" (MICRO 2019): 32
clusters of 32 compute units (CUs), chunks of 128 positions as a mask, a pointer and the nonzero values, greedy
balancing. A filter is an output row here, an input vector a token.

A cluster gets one chunk of one token's inputs at a time, broadcast to its CUs, each of which holds the same chunk of
its own filters. A CU multiplies one pair of matching nonzeros a cycle, at least one cycle a chunk and filter: max(1,
popcount(weight mask AND input mask)). The slowest CU ends the chunk, as all wait for the next broadcast.
`array.balancing`:
  none  a CU has one filter; `units` consecutive rows are a group.
  gb-s  filters are sorted by density over the whole layer (software, once) and the densest shares a CU with the
        sparsest, the second densest with the second sparsest, ...; a CU works through both in every chunk. Pairs go to
        groups from the middle of the order outwards. The layer is filled up to whole groups with empty filters, so
        that the densest run alone.
  gb-h  the same groups, but pairs are formed anew in every chunk, densest with sparsest by that chunk's counts (the
        sums find their filters through a permutation network). No pairing of a group has a shorter slowest CU, so gb-h
        never takes more cycles than gb-s.

The `clusters` are divided over groups of filters and over tokens, g x t = clusters, whichever division `search`
finds best: with one token all take different groups. Clusters run on their own and wait for each other every
`array.sync_chunks` chunks, by which their buffers are filled; those of different tokens take the same time. A granule
is g groups x sync_chunks chunks. Weights are held in the CUs while the tokens of a tile pass. Stored: values, a whole
mask and a pointer of 32 bits for every filter and chunk; the dense baseline stores every weight and nothing else.

Sparse inputs (activation density < 1): expected cycles. Given that a of a chunk's n inputs are nonzero, a CU with c
kept weights matches Hypergeometric(n, c, a) of them; the CUs are taken as independent given a (they are uncorrelated
for random masks), a is Binomial(n, density) and the expectation over it is taken at NODES values of a with linear
interpolation between them (at every value where a is small).

Deviations and approximations: the paper runs convolutions, and spreads its clusters over the input map; the division of
a linear layer over clusters, the wait every sync_chunks, pointer width and all buffers are ours. With sparse inputs,
two filters on a CU are taken as equally dense, which spreads a little more than their own densities; waiting of
clusters for each other counts expected times, not the slowest draw. Inputs and outputs are transferred dense even where
they are sparse. Prefix sums, priority encoders, the permutation network and its limited width, and filling the CUs with
filters (hidden behind the chunk before) take no cycles. Fewer weights are never slower without balancing; with it, they
can change the order of filters and so the groups. More CUs or clusters regroup filters and are not always faster. In
RTL (docs/validation/rtl.md) a unit must be told how many filters it has: an absent one that is joined all the same
takes a cycle a chunk.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from simulator.accelerators.accelerator import Accelerator, Values
from simulator.accelerators.sparten.kernels import chunk_counts, densest_first, expected_cycles, pack_units
from simulator.cycles import LayerCycles, ceil_div
from simulator.formats import block_sides
from simulator.machine.parts import Machine, PositiveInt, Side
from simulator.statistics import Statistics
from simulator.tiling.granules import Granules, tile_sums
from simulator.tiling.mapper import Cut, best_layer
from simulator.work import Work
from workloads.mask import PackedMask

POINTER_BITS = 32
STEP_UNIT = 256  # of an expected cycle

ChunkSize = Annotated[int, Field(gt=0, le=256, multiple_of=64)]


@dataclass(frozen=True)
class SpartenArray:
    clusters: Side
    units: Side
    chunk: ChunkSize
    sync_chunks: PositiveInt
    balancing: Literal["none", "gb-s", "gb-h"]

    @property
    def filters(self) -> int:
        """Of a compute unit."""
        return 1 if self.balancing == "none" else 2


@dataclass(frozen=True)
class SpartenSpec(Machine):
    array: SpartenArray

    @property
    def macs(self) -> int:
        return self.array.clusters * self.array.units


class Sparten(Accelerator):
    name = "sparten"
    reuses_halo = True
    spec_type = SpartenSpec
    spec: SpartenSpec
    skips_zero_inputs = True
    notes = (
        "SparTen runs convolutions: how a linear layer is divided over its clusters (filters, tokens) is ours.",
        "Clusters wait for each other every sync_chunks chunks; buffer sizes and DRAM bandwidth are ours.",
        "With sparse inputs cycles are expected values, CUs taken as independent given how many inputs of a chunk are "
        "nonzero.",
        "Inputs and outputs are transferred dense; weights as values, a 128-bit mask and a 32-bit pointer a chunk.",
        "The inner join and the permutation network of gb-h take no cycles of their own.",
    )

    def geometry(self) -> list[int | str]:
        return [self.spec.array.units, self.spec.array.chunk, self.spec.array.balancing]

    def gather(self, mask: PackedMask, values: Values) -> dict[str, np.ndarray]:
        """Of every group of filters and chunk: see `arrays_of`; and `filters`, the filters of every (group, CU)."""
        counts = chunk_counts(mask.words, self.spec.array.chunk // 64)
        return self.arrays_of(counts, mask.cols) | {"masks": np.ones(1, dtype=np.int64)}

    def dense(self, rows: int, cols: int) -> dict[str, np.ndarray]:
        counts = np.tile(block_sides(cols, self.spec.array.chunk).astype(np.uint16), (rows, 1))
        return self.arrays_of(counts, cols) | {"masks": np.zeros(1, dtype=np.int64)}

    def arrays_of(self, counts: np.ndarray, cols: int) -> dict[str, np.ndarray]:
        """From kept weights per (row, chunk). rows (groups,); cols (chunks,); values, cycles (groups, chunks): kept
        weights, and cycles with dense inputs; counts (groups, chunks, units): kept weights of every CU; filters
        (groups, units)."""
        array = self.spec.array
        order = grouped(counts.sum(axis=1, dtype=np.int64), array.units, array.balancing)
        groups, chunks = len(order), counts.shape[1]
        unit_counts = np.empty((groups, chunks, array.units), dtype=np.min_scalar_type(array.filters * array.chunk))
        cycles, values = (np.empty((groups, chunks), dtype=np.int64) for _ in range(2))
        pack_units(counts, order, array.units, array.balancing == "gb-h", unit_counts, cycles, values)
        present = (order >= 0).reshape(groups, array.filters, array.units)
        return {
            "rows": present.sum(axis=(1, 2), dtype=np.int64),
            "cols": block_sides(cols, array.chunk),
            "values": values,
            "cycles": cycles,
            "counts": unit_counts,
            "filters": present.sum(axis=1, dtype=np.uint8),
        }

    def layer(self, work: Work, statistics: Statistics) -> LayerCycles:
        """The best mapping under any division of the clusters."""
        return best_layer(self.spec, list(self.divisions(work, statistics)), work)

    def divisions(self, work: Work, statistics: Statistics) -> Iterator[Cut]:
        """Every division of the clusters over outputs and tokens, that of the smallest granule first."""
        clusters = self.spec.array.clusters
        for groups in range(1, clusters + 1):
            if clusters % groups:
                continue
            tokens = clusters // groups
            key = ("division", tokens, groups, self.spec.array.sync_chunks, work.activation_density)
            if key not in statistics.memo:
                note = f"{groups} clusters over outputs x {tokens} over tokens"
                granules = self.granules(statistics, groups, work.activation_density)
                statistics.memo[key] = Cut(granules, Statistics({}), note)
            yield statistics.memo[key]

    def granules(self, statistics: Statistics, groups: int, density: float) -> Granules:
        """Granules of `groups` groups x sync_chunks chunks, one token a step for each of the other clusters."""
        array, rows, cols = self.spec.array, statistics["rows"], statistics["cols"]
        row_starts, col_starts = np.arange(0, len(rows), groups), np.arange(0, len(cols), array.sync_chunks)
        chunks = np.broadcast_to(rows[:, None], (len(rows), len(cols)))
        step_cycles = np.maximum.reduceat(
            tile_sums(self.chunk_cycles(statistics, density), 1, array.sync_chunks), row_starts, axis=0
        )
        return Granules(
            rows=np.add.reduceat(rows, row_starts),
            cols=np.add.reduceat(cols, col_starts),
            values=tile_sums(statistics["values"], groups, array.sync_chunks),
            metadata_bits=tile_sums(chunks, groups, array.sync_chunks)
            * (array.chunk + POINTER_BITS)
            * statistics["masks"][0],
            step_cycles=step_cycles,
            visit_cycles=np.zeros_like(step_cycles),
            token_step=array.clusters // groups,
            step_unit=1 if density == 1 else STEP_UNIT,
            act_reads=float(groups),
        )

    def chunk_cycles(self, statistics: Statistics, density: float) -> np.ndarray:
        """(groups, chunks) int64: cycles of a token, or, with sparse inputs, expected cycles in 1 / STEP_UNIT."""
        if density == 1:
            return statistics["cycles"]
        key = ("expected", density)
        if key not in statistics.memo:
            expected = expected_cycles(statistics["counts"], statistics["filters"], statistics["cols"], density)
            statistics.memo[key] = np.ceil(expected * STEP_UNIT - 1e-6).astype(np.int64)
        return statistics.memo[key]


def grouped(kept: np.ndarray, units: int, balancing: str) -> np.ndarray:
    """Rows of every group, (groups, units) or, of pairs, (groups, 2 * units) with the partners of CU u at u and units
    + u; -1: no filter. kept (rows,) are the weights of every row."""
    rows = len(kept)
    size = units if balancing == "none" else 2 * units
    groups = ceil_div(rows, size)
    order = np.full(groups * size, -1, dtype=np.int64)
    if balancing == "none":
        order[:rows] = np.arange(rows)
        return order.reshape(groups, size)
    order[:rows] = densest_first(kept)
    half = len(order) // 2
    first, second = order[:half][::-1], order[half:]
    return np.concatenate([first.reshape(groups, units), second.reshape(groups, units)], axis=1)
