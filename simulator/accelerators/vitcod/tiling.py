"""How the cycle model of ViTCoD maps a layer: every tiling that fits, with its energy and a lower bound of its cycles.

A design costs a table over all (tile shape, token tile) and a walk through the few tilings that can be the best.
"""

import math
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numba import njit

from simulator.accelerators.vitcod.shapes import (
    METADATA,
    MOST_HELD,
    MOST_METADATA,
    READS,
    SCALES,
    SUMS,
    WEIGHTS,
    WORD,
    Shape,
    Shapes,
    Storage,
)
from simulator.accelerators.vitcod.spec import VitcodSpec
from simulator.actions import BUFFERS, Actions
from simulator.cycles import Infeasible, LayerCycles, ceil_div
from simulator.engine import Stream, run
from simulator.machine.fit import too_small
from simulator.machine.port import port_of
from simulator.tiling.mapper import token_tiles
from simulator.tiling.search import Choices
from simulator.tiling.tiles import load_cycles
from simulator.work import Work, held_bytes
from workloads.refusals import Refusal

SHAPE, TILE_TOKENS, RESIDENT, BOUND, ENERGY = range(5)  # columns of candidate_table


def tilings(spec: VitcodSpec, shapes: Shapes, work: Work, limit_cycles: float = math.inf) -> Choices["Schedule"] | None:
    """Every tiling under one threshold; None where already what they move takes longer than limit_cycles: that spares
    counting their compute cycles.

    Raises Infeasible where not even the smallest tile fits.
    """
    storage = Storage.of(spec, work)
    facts = shapes.facts(storage)
    capacities = np.array(spec.buffers.capacities)
    room = capacities / 2 if spec.buffers.double else capacities
    fits = (facts[:, MOST_HELD] <= room[0]) & (facts[:, MOST_METADATA] <= room[1])
    tiles = np.array(token_tiles(spec, work.tokens, 1), dtype=np.int64)
    number, port = spec.number, port_of(spec.dram, spec.clock.mhz)
    unit = spec.unit_energies(work.width(number.weight_bits))
    useful = work.nnz * work.tokens * work.activation_density

    def candidates(totals: np.ndarray) -> np.ndarray:
        found = candidate_table(
            *(facts, np.flatnonzero(fits), totals, tiles, work.rows, work.cols, work.tokens),
            *(number.activation_bits, work.held_bits(number.activation_bits), number.accumulator_bits),
            *(capacities, room, np.array(spec.buffers.widths)),
            *(spec.buffers.double, port.bytes_per_cycle, port.turnaround_cycles),
            *(spec.macs, useful, useful * (unit.mac_pj + unit.register_pj), unit.idle_pj, unit.dram_pj),
            *(np.array(unit.read_pj), np.array(unit.write_pj)),
        )
        if not len(found):
            raise Infeasible(smallest_tile_refusal(spec, shapes, storage, work, int(tiles.min())))
        return found

    totals = shapes.totals(spec.array.height)
    unknown = (totals[fits] < 0).any()
    if unknown and candidates(np.maximum(totals, 0))[:, BOUND].min() > limit_cycles:
        return None
    table = candidates(shapes.totals(spec.array.height, fits))

    @cache
    def walk(i: int) -> Schedule:
        shape, tokens, resident = (int(n) for n in table[i, : RESIDENT + 1])
        return Schedule(spec, shapes, shape, storage, work, tokens, bool(resident))

    return Choices(table[:, BOUND], table[:, ENERGY], walk)


@njit(cache=True, nogil=True)
def candidate_table(
    facts, fitting, totals, tiles, rows, cols, tokens,
    act_bits, held_bits, sum_bits, capacities, room, widths, double, bandwidth, turnaround,
    macs, useful, shared_pj, idle_pj, dram_pj, read_pj, write_pj,
):  # fmt: skip
    """What fits, (n, 5): shape, token tile, inputs resident, lower bound of the cycles, energy in pJ as layer_energy
    has it, but that bytes of inputs and outputs are not rounded up tile by tile.

    The bound is the longer of transferring everything and of first load, busiest of array and buffers, last store;
    their sum where buffers are single. Inputs that stay on chip for a token tile take the whole buffer if there is no
    other token tile.
    """
    table = np.empty((len(fitting) * len(tiles), 5))
    # table[:n] holds the tilings found so far; what follows from the shape alone is counted once, outside the token
    # tiles
    n = 0
    for i in fitting:
        tile_rows, tile_cols, row_tiles, _, last_rows, reads, sums, _, _, weights, metadata, scales, first_bytes = (
            facts[i]
        )
        compute = totals[i] * tokens
        volumes = (
            float(weights + scales) * tokens,
            float(metadata) * tokens,
            reads * tokens * act_bits / 8,
            sums * tokens * sum_bits / 8,  # read, and written
        )
        busy = float(compute)
        shape_pj = shared_pj + idle_pj * max(compute * macs - useful, 0.0)
        for b in range(4):
            shape_pj += 8 * volumes[b] * (read_pj[b] + (write_pj[b] if b == 3 else 0.0))
            if widths[b] > 0:
                busy = max(busy, volumes[b] * (2 if b == 3 else 1) / widths[b])
        for t in tiles:
            if tile_rows * t * sum_bits / 8 > room[3]:
                continue
            resident = cols * t * held_bits / 8 <= (capacities[2] if t == tokens else room[2])
            if not resident and tile_cols * t * held_bits / 8 > room[2]:
                continue
            count = -(-tokens // t)
            inputs = cols * tokens * held_bits / 8 * (1 if resident else row_tiles)
            moved = float(weights + metadata + scales) * count + inputs + rows * tokens * act_bits / 8
            transfer = moved / bandwidth + turnaround * row_tiles * count
            first = (first_bytes + tile_cols * t * held_bits / 8) / bandwidth
            last = last_rows * (tokens - (count - 1) * t) * act_bits / 8 / bandwidth + turnaround
            table[n, SHAPE], table[n, TILE_TOKENS], table[n, RESIDENT] = i, t, resident
            table[n, BOUND] = max(transfer, busy + first + last) if double else transfer + busy
            filled = (weights + scales) * count * write_pj[0] + metadata * count * write_pj[1] + inputs * write_pj[2]
            table[n, ENERGY] = shape_pj + 8 * (filled + moved * dram_pj)
            n += 1
    return table[:n]


@dataclass(frozen=True)
class Schedule:
    """A layer under one tiling: the token tiles in order, a shorter last one as a pass of its own."""

    spec: VitcodSpec
    shapes: Shapes
    index: int
    storage: Storage
    work: Work
    tile_tokens: int
    resident: bool  # the inputs of a token tile are loaded once, with the first row tile

    @property
    def shape(self) -> Shape:
        return self.shapes[self.index]

    @cached_property
    def cycles(self) -> int:
        return run(self.stream, self.spec.buffers.double)

    @property
    def transfer_cycles(self) -> int:
        """Of all loads and stores, without walking."""
        port = port_of(self.spec.dram, self.spec.clock.mhz)
        loaded = self.shapes.loaded(self.storage, self.index)
        total = 0
        for tokens, times in self._runs:
            loads = load_cycles(loaded, self._inputs(tokens), self.resident, port.burst_bytes, port.bytes_per_cycle)
            total += times * (loads + int(port.store_cycles(self._outputs(tokens)).sum()))
        return total

    @property
    def compute_cycles(self) -> int:
        """Of the array."""
        return int(self.shapes.totals(self.spec.array.height)[self.index]) * self.work.tokens

    @property
    def busy_cycles(self) -> int:
        """Of the array, or of the slowest buffer where that is longer, tile by tile; without walking."""
        return self.stream.total(self.stream.compute) if any(self.spec.buffers.widths) else self.compute_cycles

    @cached_property
    def stream(self) -> Stream:
        loads, computes, stores = zip(*(self._pass(tokens) for tokens, _ in self._runs), strict=True)
        tiles = self.shape.kept.size
        passes = [[i * tiles, (i + 1) * tiles, times] for i, (_, times) in enumerate(self._runs)]
        return Stream(
            np.concatenate(loads), np.concatenate(computes), np.concatenate(stores), np.array(passes, dtype=np.int64)
        )

    @property
    def _runs(self) -> list[tuple[int, int]]:
        """(tokens of a token tile, how many of them)."""
        full, rest = divmod(self.work.tokens, self.tile_tokens)
        return [(self.tile_tokens, full)] + ([(rest, 1)] if rest else [])

    def _pass(self, tokens: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(tiles,) cycles of load, compute and store of one token tile."""
        spec = self.spec
        port = port_of(spec.dram, spec.clock.mhz)
        loaded = self.shapes.loaded(self.storage, self.index).astype(np.int64)
        loaded[: 1 if self.resident else None] += self._inputs(tokens)
        compute = self.shapes.cycles(spec.array.height, self.index) * np.int64(tokens)
        if any(spec.buffers.widths):
            compute = np.maximum(compute, self._buffer_cycles(tokens))
        store = np.zeros_like(loaded)
        store[:, -1] = port.store_cycles(self._outputs(tokens))
        return port.cycles(loaded).ravel(), compute.ravel(), store.ravel()

    def _inputs(self, tokens: int) -> np.ndarray:
        """Bytes of the inputs of every column tile."""
        return held_bytes(self.work, self.shape.cols * tokens, self.spec.number.activation_bits)

    def _outputs(self, tokens: int) -> np.ndarray:
        """Bytes of the outputs of every row tile."""
        return -(-self.shape.rows * (tokens * self.spec.number.activation_bits) // 8)

    def _buffer_cycles(self, tokens: int) -> np.ndarray:
        """Cycles that the slowest buffer needs for every tile; single-ported ones are filled in the same cycles."""
        shape, number, buffers = self.shape, self.spec.number, self.spec.buffers
        weight, metadata, scale = 8 * shape.parts(self.storage)
        inputs = np.zeros_like(weight)
        inputs[: 1 if self.resident else None] = 8 * self._inputs(tokens)
        fills = [weight + scale, metadata, inputs, 0] if buffers.ports == 1 else [0, 0, 0, 0]
        inputs_read = shape.kept + np.outer(shape.rounds(self.shapes.split), shape.dense_cols)
        sums = 2 * np.outer(shape.rows, shape.engines())
        sums[:, 0] -= shape.rows  # nothing to add to yet
        sums[:, -1] += shape.rows  # leaving for DRAM
        reads = [weight + scale, metadata, inputs_read * number.activation_bits, sums * number.accumulator_bits]
        slowest = np.zeros_like(weight)
        for width, bits, fill in zip(buffers.widths, reads, fills, strict=True):
            if width:
                slowest = np.maximum(slowest, np.ceil((bits * tokens + fill) / (8 * width)).astype(np.int64))
        return slowest

    def layer(self) -> LayerCycles:
        """What the rows say of it."""
        spec, work, shape, split = self.spec, self.work, self.shape, self.shapes.split
        facts = self.shapes.facts(self.storage)[self.index]
        reads, sums = int(facts[READS]), int(facts[SUMS])
        compute_cycles = self.compute_cycles
        passes = ceil_div(work.tokens, self.tile_tokens)
        weight_bytes, metadata_bytes, scale_bytes = (int(facts[k]) * passes for k in (WEIGHTS, METADATA, SCALES))
        input_loads = 1 if self.resident else len(shape.rows)
        activation_bytes = sum(int(self._inputs(tokens).sum()) * times for tokens, times in self._runs) * input_loads
        output_bytes = sum(int(self._outputs(tokens).sum()) * times for tokens, times in self._runs)
        useful = work.nnz * work.tokens * work.activation_density
        sum_bits = 1.0 * sums * work.tokens * spec.number.accumulator_bits
        return LayerCycles(
            compute_cycles=compute_cycles,
            stall_cycles=self.cycles - compute_cycles,
            buffer_cycles=self.busy_cycles - compute_cycles,
            transfer_cycles=self.transfer_cycles,
            ideal_cycles=useful / spec.macs,
            weight_bytes=weight_bytes,
            metadata_bytes=metadata_bytes,
            scale_bytes=scale_bytes,
            activation_bytes=activation_bytes,
            output_bytes=output_bytes,
            mapping=f"tile {shape.tile_rows}x{WORD * shape.tile_words}x{self.tile_tokens}, "
            f"{self.shapes.n_dense} dense columns on {split.dense_lanes} lanes",
            actions=Actions(
                macs=useful,
                idle_macs=max(compute_cycles * spec.macs - useful, 0.0),
                read_bits=(
                    8.0 * int(facts[WEIGHTS] + facts[SCALES]) * work.tokens,
                    8.0 * int(facts[METADATA]) * work.tokens,
                    1.0 * reads * work.tokens * spec.number.activation_bits,
                    sum_bits,
                ),
                write_bits=(8.0 * (weight_bytes + scale_bytes), 8.0 * metadata_bytes, 8.0 * activation_bytes, sum_bits),
                dram_bits=8.0 * (weight_bytes + metadata_bytes + scale_bytes + activation_bytes + output_bytes),
            ),
            stream=self.stream,
        )


def smallest_tile_refusal(spec: VitcodSpec, shapes: Shapes, storage: Storage, work: Work, tokens: int) -> Refusal:
    """Why not even the smallest tile fits: the first buffer that is too small for it."""
    facts, buffers = shapes.facts(storage)[0], spec.buffers
    rows, cols = int(facts[0]), int(facts[1])
    needs = (
        int(facts[MOST_HELD]),
        int(facts[MOST_METADATA]),
        math.ceil(cols * tokens * work.held_bits(spec.number.activation_bits) / 8),
        ceil_div(rows * tokens * spec.number.accumulator_bits, 8),
    )
    for i in (0, 1, 3, 2):
        if needs[i] > buffers.capacities[i] / (2 if buffers.double else 1):
            fixed = any((spec.mapping.tile_rows, spec.mapping.tile_cols, spec.mapping.tile_tokens))
            where = (
                f"the smallest tile{' that mapping.* allows' if fixed else ''}, {rows} outputs x {cols} inputs x "
                f"{tokens} token{'s' if tokens > 1 else ''},"
            )
            setting, lower = f"buffers.{BUFFERS[i]}_kib", "mapping.tile_*" if fixed else "array.width"
            return too_small(where, setting, needs[i], buffers.capacities[i], buffers.double, f"lower {lower}")
    raise AssertionError("a tile that fits every buffer was refused")
