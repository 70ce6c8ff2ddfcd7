"""SIGMA's folds as tiles: what they hold, which orders fit the buffers, and the stream they make."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from simulator.accelerators.sigma.spec import SigmaSpec
from simulator.actions import BUFFERS, Actions
from simulator.cycles import Infeasible, LayerCycles, ceil_div
from simulator.energy import total_pj
from simulator.engine import Stream, run
from simulator.machine.fit import too_small
from simulator.machine.port import Port
from simulator.statistics import Statistics
from simulator.work import Work, held_bytes
from workloads.refusals import Refusal

CONFIGURE_CYCLES = 1
DRAIN_CYCLES = 1


@dataclass(frozen=True)
class Folds:
    """What the folds of a layer hold and move, (folds,) int64 each.

    `finished` are the rows whose outputs a fold completes, rows without kept weights included; `continued`: it begins
    with the rest of a row; `unfinished`: it ends within one.
    """

    kept: np.ndarray
    inputs: np.ndarray
    finished: np.ndarray
    continued: np.ndarray
    unfinished: np.ndarray
    weight_bytes: np.ndarray
    scale_bytes: np.ndarray
    metadata_bytes: np.ndarray
    port_weights: np.ndarray  # (folds, 3)
    port_inputs: np.ndarray  # (folds, 3)

    @property
    def sums(self) -> np.ndarray:
        """Sums written for a token."""
        return self.finished + self.unfinished

    def fixed_cycles(self, num_ms: int) -> np.ndarray:
        """Cycles of configuring, adder tree and draining, each time a fold's weights go out."""
        return (self.kept > 0) * (CONFIGURE_CYCLES + (num_ms - 1).bit_length() + DRAIN_CYCLES)

    def slowest_port(self, tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """Weights and distinct inputs of the port that takes longest over all tokens."""
        weights, inputs = self.port_weights[:, 0], self.port_inputs[:, 0]
        for port in (1, 2):
            longer = self.port_weights[:, port] + self.port_inputs[:, port] * tokens > weights + inputs * tokens
            weights = np.where(longer, self.port_weights[:, port], weights)
            inputs = np.where(longer, self.port_inputs[:, port], inputs)
        return weights, inputs


def folds_of(spec: SigmaSpec, work: Work, statistics: Statistics) -> Folds:
    number = spec.number
    width = work.width(number.weight_bits)
    quantized = work.weight_bits is not None and work.weight_bits <= number.weight_bits
    key = ("folds", width, quantized, work.group_size, number.scale_bits)
    if key not in statistics.memo:
        begins = statistics["begins"]
        kept = statistics["kept"].astype(np.int64)
        row, col = np.divmod(begins, work.cols)
        group = work.group_size or work.cols
        scales = np.diff(row * ceil_div(work.cols, group) - -col // group) * (
            (number.scale_bits + width) if quantized else 0
        )
        within = (col > 0).astype(np.int64)
        statistics.memo[key] = Folds(
            kept=kept,
            inputs=statistics["inputs"].astype(np.int64),
            finished=np.diff(row),
            continued=within[:-1],
            unfinished=within[1:],
            weight_bytes=-(-kept * width // 8),
            scale_bytes=-(-scales // 8),
            metadata_bytes=-(-np.diff(begins) // 8) * int(statistics["bitmap"][0]),
            port_weights=statistics["port_weights"].astype(np.int64),
            port_inputs=statistics["port_inputs"].astype(np.int64),
        )
    return statistics.memo[key]


def plans_of(spec: SigmaSpec, work: Work, folds: Folds) -> list["Plan"]:
    """What fits, rows-outer first: it computes least. Raises Infeasible."""
    asked, tokens = spec.mapping.order, work.tokens
    tiles = [tokens, *(1 << i for i in reversed(range(tokens.bit_length())) if 1 << i < tokens)]
    if spec.mapping.tile_tokens:
        tiles = [min(spec.mapping.tile_tokens, tokens)]
    rows_outer = [Plan(spec, work, folds, tile, "rows-outer") for tile in tiles]
    tokens_outer = [Plan(spec, work, folds, tile, "tokens-outer") for tile in tiles]
    plans = [] if asked == "tokens-outer" else [plan for plan in rows_outer if plan.refusal() is None]
    if asked == "tokens-outer" or (asked == "best" and not (plans and plans[0].resident)):
        plans += [plan for plan in tokens_outer if plan.refusal() is None]
    if not plans:
        last = rows_outer[-1] if asked == "rows-outer" else tokens_outer[-1]
        refusal = last.refusal()
        assert refusal
        raise Infeasible(refusal)
    return plans


@dataclass(frozen=True)
class Plan:
    """A layer with `tile` tokens at a time in a loop order."""

    spec: SigmaSpec
    work: Work
    folds: Folds
    tile: int
    order: Literal["rows-outer", "tokens-outer"]

    def input_bits(self, columns: int) -> int:
        return math.ceil(columns * self.tile * self.held_bits)

    @property
    def held_bits(self) -> float:
        """Of an input that DRAM brings."""
        return self.work.held_bits(self.spec.number.activation_bits)

    @property
    def resident(self) -> bool:
        """Whether the inputs of all tokens stay on chip."""
        bits = self.work.cols * self.work.tokens * self.held_bits
        return bits / 8 <= self.spec.buffers.activation_kib * 1024

    @property
    def output_bytes(self) -> int:
        return ceil_div(self.work.rows * self.work.tokens * self.spec.number.activation_bits, 8)

    def refusal(self) -> Refusal | None:
        """The first buffer that is too small and what it would need; None where the plan fits. Halves are those of what
        a fold brings or leaves; what stays for all tokens takes the buffer as a whole."""
        folds, buffers = self.folds, self.spec.buffers
        share = 2 if buffers.double else 1
        sum_bits = self.spec.number.accumulator_bits
        if self.order == "rows-outer":
            done = folds.continued * (folds.finished > 0)  # sums of split rows stay for all tokens
            sums = (folds.finished - done) * self.tile + (done + folds.unfinished) * self.work.tokens
            inputs = 0 if self.resident else self.input_bits(int(folds.inputs.max())) * share
        else:
            sums = folds.sums * self.tile
            inputs = self.input_bits(self.work.cols) * (1 if self.tile == self.work.tokens else share)
        needs = (
            int((folds.weight_bytes + folds.scale_bytes).max()) * share,
            ceil_div(self.work.cols, 8) * share if folds.metadata_bytes.any() else 0,
            ceil_div(inputs, 8),
            ceil_div(int(sums.max()) * sum_bits, 8) * share,
        )
        for name, need, capacity in zip(BUFFERS, needs, buffers.capacities, strict=True):
            if need > capacity:
                halves = ", in both halves," if buffers.double else ","
                where = f"a fold of {self.spec.macs} multipliers with {self.tile} tokens, {self.order}{halves}"
                return too_small(where, f"buffers.{name}_kib", need, capacity)
        return None

    @property
    def runs(self) -> list[tuple[int, int]]:
        """(tokens of a token tile, how many of them)."""
        full, rest = divmod(self.work.tokens, self.tile)
        return [(self.tile, full)] + ([(rest, 1)] if rest else [])

    @property
    def passes(self) -> int:
        """How often the weights are loaded."""
        return ceil_div(self.work.tokens, self.tile) if self.order == "tokens-outer" else 1

    def estimate(self, port: Port) -> tuple[float, float]:
        """(lower bound of the cycles, energy in pJ as layer_energy has it, bytes unrounded), without tiles.

        The bound is the longer of all transfers and of first load, all folds with all tokens, last store.
        """
        spec, work, folds = self.spec, self.work, self.folds
        number, buffers, passes = spec.number, spec.buffers, self.passes
        held, metadata = (folds.weight_bytes + folds.scale_bytes) * passes, folds.metadata_bytes * passes
        token_bytes = number.activation_bits / 8
        rows_outer = self.order == "rows-outer"
        whole = self.resident or not rows_outer  # every input is loaded once
        input_bytes = self.held_bits / 8
        inputs = (work.cols if whole else int(folds.inputs.sum())) * work.tokens * input_bytes
        read, sum_bytes = folds.inputs * (work.tokens * token_bytes), work.tokens * number.accumulator_bits / 8
        array = folds.fixed_cycles(spec.array.num_ms) * passes
        for tokens, times in [(work.tokens, 1)] if rows_outer else self.runs:
            weights, distinct = folds.slowest_port(tokens)
            array = array + (weights + distinct * tokens) * times
        weight_width, index_width, input_width, sum_width = (width or math.inf for width in buffers.widths)
        sums = (folds.sums + folds.continued + folds.finished) * (sum_bytes / sum_width)
        slowest = np.maximum(held / weight_width + read / input_width, np.maximum(metadata / index_width, sums))
        busy = float(np.maximum(array, slowest).sum())
        moved = float(held.sum() + metadata.sum()) + inputs + work.rows * work.tokens * token_bytes
        first = (held[0] + metadata[0]) / passes + (work.cols if whole else folds.inputs[0]) * self.tile * input_bytes
        last = folds.finished[-1] * (work.tokens - (ceil_div(work.tokens, self.tile) - 1) * self.tile) * token_bytes
        ends, transfer = (first + last) / port.bytes_per_cycle, moved / port.bytes_per_cycle
        bound = max(transfer, busy + ends) if buffers.double else transfer + busy
        reads = (held.sum(), metadata.sum(), read.sum(), (folds.continued.sum() + work.rows) * sum_bytes)
        writes = (held.sum(), metadata.sum(), inputs, folds.sums.sum() * sum_bytes)
        useful = work.nnz * work.tokens * work.activation_density
        idle = max(float(array.sum()) * spec.macs - useful, 0.0)
        unit = spec.unit_energies(work.width(number.weight_bits))
        return bound, float(total_pj(unit, useful, idle, reads, writes, moved))

    def layer(self, port: Port) -> LayerCycles:
        spec, work, folds = self.spec, self.work, self.folds
        execution = Execution(self, port)
        stream = execution.tokens_outer(self.runs) if self.order == "tokens-outer" else execution.rows_outer(self.runs)
        cycles = run(stream, spec.buffers.double)
        compute_cycles = execution.array_cycles
        weight_bytes, metadata_bytes, scale_bytes = (
            int(sizes.sum()) * self.passes for sizes in (folds.weight_bytes, folds.metadata_bytes, folds.scale_bytes)
        )
        useful = work.nnz * work.tokens * work.activation_density
        filled = int((folds.kept > 0).sum())
        weights, inputs = execution.slowest_port(work.tokens)
        sums = work.tokens * spec.number.accumulator_bits
        tile = f"{spec.array.packing} packing, {filled} folds x {self.tile} tokens, {self.order}"
        return LayerCycles(
            compute_cycles=compute_cycles,
            stall_cycles=cycles - compute_cycles,
            buffer_cycles=stream.total(stream.compute) - compute_cycles,
            transfer_cycles=stream.total(stream.load) + stream.total(stream.store),
            ideal_cycles=useful / spec.macs,
            weight_bytes=weight_bytes,
            metadata_bytes=metadata_bytes,
            scale_bytes=scale_bytes,
            activation_bytes=execution.activation_bytes,
            output_bytes=execution.output_bytes,
            mapping=tile,
            actions=Actions(
                macs=useful,
                idle_macs=max(compute_cycles * spec.macs - useful, 0.0),
                read_bits=(
                    8.0 * (weight_bytes + scale_bytes),
                    8.0 * metadata_bytes,
                    float(folds.inputs.sum()) * work.tokens * spec.number.activation_bits,
                    float(folds.continued.sum() + work.rows) * sums,
                ),
                write_bits=(
                    8.0 * (weight_bytes + scale_bytes),
                    8.0 * metadata_bytes,
                    8.0 * execution.activation_bytes,
                    float(folds.sums.sum()) * sums,
                ),
                dram_bits=8.0
                * (weight_bytes + metadata_bytes + scale_bytes + execution.activation_bytes + execution.output_bytes),
            ),
            stream=stream,
            extra={"folds": filled, "distribution_cycles": int((weights + inputs * work.tokens).sum())},
        )


class Execution:
    """A plan's tiles in the order of execution, and what they add up to."""

    def __init__(self, plan: Plan, port: Port):
        self.plan, self.port, self.folds, self.spec = plan, port, plan.folds, plan.spec
        self.fixed = self.folds.fixed_cycles(self.spec.array.num_ms)
        self.array_cycles = self.activation_bytes = self.output_bytes = 0
        self._slowest: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def slowest_port(self, tokens: int) -> tuple[np.ndarray, np.ndarray]:
        if tokens not in self._slowest:
            self._slowest[tokens] = self.folds.slowest_port(tokens)
        return self._slowest[tokens]

    def tokens_outer(self, runs: list[tuple[int, int]]) -> Stream:
        """A pass over all folds for each size of token tile; its first fold loads the inputs."""
        folds = len(self.folds.kept)
        kinds = []
        for tokens, times in runs:
            inputs = np.zeros(folds, dtype=np.int64)
            inputs[0] = self._input_bytes(self.plan.work.cols, tokens)
            kinds.append(self._tiles(tokens, times, True, inputs, tokens))
        starts = folds * np.arange(len(runs), dtype=np.int64)
        passes = np.stack([starts, starts + folds, [times for _, times in runs]], axis=1)
        load, compute, store = (np.concatenate(parts) for parts in zip(*kinds, strict=True))
        return Stream(load, compute, store, passes)

    def rows_outer(self, runs: list[tuple[int, int]]) -> Stream:
        """For every fold: the first token tile with its weights, the other full ones, and the rest."""
        (tokens, full), *shorter = runs
        shapes = [(tokens, 1, True)] + ([(tokens, full - 1, False)] if full > 1 else [])
        shapes += [(rest, 1, False) for rest, _ in shorter]
        kinds = []
        for some, times, first in shapes:
            inputs = self._input_bytes(self.folds.inputs, some)
            if self.plan.resident:
                inputs[:] = 0
                inputs[0] = self._input_bytes(self.plan.work.cols, some)
            kinds.append(self._tiles(some, times, first, inputs, self.plan.work.tokens))
        load, compute, store = (np.stack(parts, axis=1).ravel() for parts in zip(*kinds, strict=True))
        times_each = np.tile([times for _, times, _ in shapes], len(self.folds.kept))
        starts = np.arange(len(load), dtype=np.int64)
        if times_each.max() == 1:
            return Stream(load, compute, store, np.array([[0, len(load), 1]], dtype=np.int64))
        return Stream(load, compute, store, np.stack([starts, starts + 1, times_each], axis=1))

    def _input_bytes(self, columns, tokens: int):
        return held_bytes(self.plan.work, columns * tokens, self.spec.number.activation_bits)

    def _tiles(
        self, tokens: int, times: int, first: bool, input_bytes: np.ndarray, all_tokens: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(load, compute, store) cycles of every fold with `tokens` tokens; `first`: its weights are loaded and
        distributed. `all_tokens` pass while they stay, which decides the slowest port. The slowest buffer counts
        where it is slower."""
        folds, number, buffers = self.folds, self.spec.number, self.spec.buffers
        weight_bytes = (folds.weight_bytes + folds.scale_bytes) * first
        metadata_bytes = folds.metadata_bytes * first
        outputs = -(-folds.finished * (tokens * number.activation_bits) // 8)
        weights, inputs = self.slowest_port(all_tokens)
        array = (self.fixed + weights) * first + inputs * tokens
        self.array_cycles += int(array.sum()) * times
        self.activation_bytes += int(input_bytes.sum()) * times
        self.output_bytes += int(outputs.sum()) * times
        fill = 2 if buffers.ports == 1 else 1  # a single-ported buffer is filled in the same cycles
        weight_width, index_width, input_width, sum_width = (width or math.inf for width in buffers.widths)
        read = folds.inputs * (tokens * number.activation_bits / 8) + input_bytes * (fill - 1)
        values = weight_bytes * fill / weight_width + read / input_width  # one after the other
        sums = (folds.sums + folds.continued + folds.finished) * (tokens * number.accumulator_bits / 8) / sum_width
        slowest = np.ceil(np.maximum(np.maximum(values, metadata_bytes * fill / index_width), sums)).astype(np.int64)
        load = self.port.cycles(weight_bytes + metadata_bytes + input_bytes)
        return load, np.maximum(array, slowest), self.port.store_cycles(outputs)
