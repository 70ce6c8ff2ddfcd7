"""A layer under one mapping: its tiles in order, what they load, compute and store, and what that adds up to."""

from dataclasses import dataclass

import numpy as np

from simulator.actions import Actions
from simulator.cycles import LayerCycles, ceil_div
from simulator.engine import Stream, run
from simulator.machine.parts import Machine
from simulator.machine.port import Port
from simulator.tiling.granules import Granules, Level
from simulator.work import Work, held_bytes

ORDERS = ("tokens-outer", "rows-outer")


@dataclass(frozen=True)
class TileBytes:
    """Of one level, (row tiles, column tiles) int64 each. Weights and scales share the weight buffer."""

    level: Level
    weight_bytes: np.ndarray
    metadata_bytes: np.ndarray
    scale_bytes: np.ndarray


@dataclass(frozen=True)
class Tiling:
    """A level, the tokens of a token tile, the loop order, and whether (tokens-outer) a token tile's inputs stay on
    chip."""

    sizes: TileBytes
    tokens: int
    outer: bool
    resident: bool

    @property
    def order(self) -> str:
        return ORDERS[0] if self.outer else ORDERS[1]


def executed(machine: Machine, port: Port, granules: Granules, tiling: Tiling, work: Work, note: str) -> LayerCycles:
    """Builds the tiling's stream, walks it, and counts what moved."""
    execution = Execution(machine, port, granules, tiling, work)
    stream = execution.stream()
    cycles = run(stream, machine.buffers.double)
    compute_cycles = execution.array_cycles
    sizes, level = tiling.sizes, tiling.sizes.level
    weight_passes = ceil_div(work.tokens, tiling.tokens) if tiling.order == "tokens-outer" else 1
    weight_bytes = int(sizes.weight_bytes.sum()) * weight_passes
    metadata_bytes = int(sizes.metadata_bytes.sum()) * weight_passes
    scale_bytes = int(sizes.scale_bytes.sum()) * weight_passes
    total_bytes = weight_bytes + metadata_bytes + scale_bytes + execution.activation_bytes + execution.output_bytes
    useful = work.nnz * work.tokens * work.activation_density
    filled = (weight_bytes + scale_bytes, metadata_bytes, execution.activation_bytes, 0)
    tile = f"tile {int(level.rows[0])}x{int(level.cols[0])}x{tiling.tokens}, {tiling.order}"
    return LayerCycles(
        compute_cycles=compute_cycles,
        stall_cycles=cycles - compute_cycles,
        buffer_cycles=stream.total(stream.compute) - compute_cycles,
        transfer_cycles=stream.total(stream.load) + stream.total(stream.store),
        ideal_cycles=useful / machine.macs,
        weight_bytes=weight_bytes,
        metadata_bytes=metadata_bytes,
        scale_bytes=scale_bytes,
        activation_bytes=execution.activation_bytes,
        output_bytes=execution.output_bytes,
        mapping=f"{note}, {tile}" if note else tile,
        actions=Actions(
            macs=useful,
            idle_macs=max(compute_cycles * machine.macs - useful, 0.0),
            read_bits=(execution.read_bits[0], execution.read_bits[1], execution.read_bits[2], execution.sum_read_bits),
            write_bits=(8.0 * filled[0], 8.0 * filled[1], 8.0 * filled[2], execution.sum_write_bits),
            dram_bits=8.0 * total_bytes,
        ),
        stream=stream,
    )


class Execution:
    """A tiling's tiles in the order of execution, with what leaves and enters the buffers."""

    def __init__(self, machine: Machine, port: Port, granules: Granules, tiling: Tiling, work: Work):
        self.machine, self.port, self.granules, self.tiling, self.work = machine, port, granules, tiling, work
        self.array_cycles = 0
        self.activation_bytes = 0
        self.output_bytes = 0
        self.read_bits = [0.0, 0.0, 0.0]
        self.sum_read_bits = 0.0
        self.sum_write_bits = 0.0

    def stream(self) -> Stream:
        full, rest = divmod(self.work.tokens, self.tiling.tokens)
        runs = [(self.tiling.tokens, full)] + ([(rest, 1)] if rest else [])
        return self._tokens_outer(runs) if self.tiling.order == "tokens-outer" else self._rows_outer(runs)

    def _tokens_outer(self, runs: list[tuple[int, int]]) -> Stream:
        """A pass over all tiles for each size of token tile."""
        loads, computes, stores = [], [], []
        for tokens, times in runs:
            inputs = self._inputs(tokens)
            if self.tiling.resident:
                inputs[1:] = 0
            loads.append(self._transfer(self._weights() + inputs).ravel())
            computes.append(self._compute(tokens, times, True, inputs).ravel())
            stores.append(self._store(tokens, times).ravel())
            self.activation_bytes += int(inputs.sum()) * times
        tiles = len(loads[0])
        passes = np.array([[i * tiles, (i + 1) * tiles, times] for i, (_, times) in enumerate(runs)], dtype=np.int64)
        return Stream(np.concatenate(loads), np.concatenate(computes), np.concatenate(stores), passes)

    def _rows_outer(self, runs: list[tuple[int, int]]) -> Stream:
        """For every row tile: the first token tile with its weights, the other full ones, and the rest."""
        (tokens, full), *shorter = runs
        kinds = [(tokens, 1, True)] + ([(tokens, full - 1, False)] if full > 1 else [])
        kinds += [(rest, 1, False) for rest, _ in shorter]
        loads, computes, stores = [], [], []
        for some, times, first in kinds:
            inputs = self._inputs(some)
            loads.append(self._transfer(self._weights() + inputs if first else inputs))
            computes.append(self._compute(some, times, first, inputs))
            stores.append(self._store(some, times))
            self.activation_bytes += int(inputs.sum()) * times
        row_tiles, col_tiles = loads[0].shape
        starts = col_tiles * np.arange(row_tiles * len(kinds), dtype=np.int64)
        times_each = np.tile([times for _, times, _ in kinds], row_tiles)
        return Stream(
            np.stack(loads, axis=1).ravel(),
            np.stack(computes, axis=1).ravel(),
            np.stack(stores, axis=1).ravel(),
            np.stack([starts, starts + col_tiles, times_each], axis=1),
        )

    def _weights(self) -> np.ndarray:
        sizes = self.tiling.sizes
        return sizes.weight_bytes + sizes.metadata_bytes + sizes.scale_bytes

    def _inputs(self, tokens: int) -> np.ndarray:
        """Bytes of the inputs of every tile, (row tiles, column tiles)."""
        level = self.tiling.sizes.level
        inputs = held_bytes(self.work, level.cols * tokens, self.machine.number.activation_bits)
        return np.repeat(inputs[None, :], len(level.rows), axis=0)

    def _transfer(self, number_of_bytes: np.ndarray) -> np.ndarray:
        return self.port.cycles(number_of_bytes)

    def _store(self, tokens: int, times: int) -> np.ndarray:
        level = self.tiling.sizes.level
        outputs = np.zeros(level.values.shape, dtype=np.int64)
        outputs[:, -1] = -(-level.rows * (tokens * self.machine.number.activation_bits) // 8)
        self.output_bytes += int(outputs.sum()) * times
        return self.port.store_cycles(outputs)

    def _compute(self, tokens: int, times: int, new_weights: bool, inputs: np.ndarray) -> np.ndarray:
        """Cycles of every tile: the array's, or the slowest buffer's where that is longer. `new_weights` and `inputs`
        (bytes) are what is loaded for the tiles."""
        granules, level, number, sizes = (
            self.granules,
            self.tiling.sizes.level,
            self.machine.number,
            self.tiling.sizes,
        )
        steps = ceil_div(tokens, granules.token_step)
        array = -(-(level.step_cycles * steps) // granules.step_unit) + level.visit_cycles
        self.array_cycles += int(array.sum()) * times
        reads = steps if granules.stationary == "output" else 1
        weight_bits = 8 * (sizes.weight_bytes + sizes.scale_bytes) * reads
        index_bits = 8 * sizes.metadata_bytes * reads
        act_bits = np.outer(level.row_groups, level.cols) * (tokens * number.activation_bits * granules.act_reads)
        sums = level.rows[:, None] * (tokens * number.accumulator_bits)
        # sums that stay in the array are written once a column tile; all are read back but by the first granule
        writes = sums * (np.ones_like(level.cols) if granules.stationary == "output" else level.col_groups)
        reads_back = writes.copy()
        reads_back[:, :1] -= sums
        # leaving for DRAM reads them once more
        drained = np.zeros_like(writes)
        drained[:, -1:] = sums
        for i, bits in enumerate((weight_bits, index_bits, act_bits)):
            self.read_bits[i] += float(bits.sum()) * times
        self.sum_read_bits += float((reads_back + drained).sum()) * times
        self.sum_write_bits += float(writes.sum()) * times
        bits = (weight_bits, index_bits, act_bits, writes + reads_back + drained)
        return np.maximum(array, self._buffer_cycles(bits, new_weights, inputs))

    def _buffer_cycles(self, bits: tuple[np.ndarray, ...], new_weights: bool, inputs: np.ndarray) -> np.ndarray:
        """Cycles that the slowest buffer needs for its tile; single-ported ones are filled in the same cycles."""
        widths = self.machine.buffers.widths
        if not any(widths):
            return np.zeros((1, 1), dtype=np.int64)
        sizes, single = self.tiling.sizes, self.machine.buffers.ports == 1
        held = 8 * (sizes.weight_bytes + sizes.scale_bytes) * (single and new_weights)
        fills = (held, 8 * sizes.metadata_bytes * (single and new_weights), 8 * inputs * single, 0 * inputs)
        slowest = np.zeros(sizes.weight_bytes.shape, dtype=np.int64)
        for width, traffic, fill in zip(widths, bits, fills, strict=True):
            if width:
                slowest = np.maximum(slowest, np.ceil((traffic + fill) / (8 * width)).astype(np.int64))
        return slowest
