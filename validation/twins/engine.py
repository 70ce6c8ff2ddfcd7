"""The slow, obvious engine: given the mapping that the mapper says it chose, it walks the tiles one by one with real
numbers.

It recomputes loads, stores, buffer reads and the recurrence from their rules; the array itself is the design's
`run_tile`.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.machine.parts import Machine
from simulator.work import Work
from validation.twins.twin import Twin


@dataclass
class TwinResult:
    outputs: np.ndarray
    uses: np.ndarray
    cycles: int
    compute_cycles: int
    transfer_cycles: int
    weight_bytes: int = 0
    metadata_bytes: int = 0
    scale_bytes: int = 0
    activation_bytes: int = 0
    output_bytes: int = 0


def parse_mapping(text: str) -> tuple[int, int, int, str]:
    match = re.search(r"tile (\d+)x(\d+)x(\d+), (tokens-outer|rows-outer)$", text)
    assert match, text
    return int(match[1]), int(match[2]), int(match[3]), match[4]


def to_bytes(bits: float) -> int:
    return math.ceil(bits / 8)


def slow_walk(load: list[int], compute: list[int], store: list[int], double: bool) -> int:
    """The recurrence of engine.walk, with every time kept."""
    computed: list[int] = []
    stored: list[int] = []
    port = 0
    for i in range(len(load)):
        gate = i - 2 if double else i - 1
        port = max(port, computed[gate] if gate >= 0 else 0) + load[i]
        start = max(port, computed[-1] if computed else 0)
        if i and store[i - 1]:
            port = max(port, computed[i - 1]) + store[i - 1]
            stored.append(port)
            wait = len(stored) - (2 if double else 1)
            start = max(start, stored[wait] if wait >= 0 else 0)
        computed.append(start + compute[i])
    return max(port, computed[-1]) + store[-1] if load else 0


def run_layer(
    case: Twin, spec: Machine, weights: np.ndarray, kept: np.ndarray, inputs: np.ndarray, work: Work, mapping: str,
    granule: tuple[int, int], stationary: str, act_reads: float, token_step: int,
) -> TwinResult:  # fmt: skip
    """weights, kept (rows, cols); inputs (tokens, cols); integers all."""
    tile_rows, tile_cols, tile_tokens, order = parse_mapping(mapping)
    rows, cols = kept.shape
    tokens = len(inputs)
    width = work.width(spec.number.weight_bits)
    context: Any = case.layer_kept(spec, kept) if case.layer_kept else None
    assert case.run_tile
    assert case.stored_bits
    bytes_per_cycle = spec.dram.bandwidth_gbps * 1e3 * spec.dram.efficiency / spec.clock.mhz
    result = TwinResult(np.zeros((tokens, rows), np.int64), np.zeros((rows, cols), np.int64), 0, 0, 0)
    share = 0.5 if spec.buffers.double else 1.0
    capacity = spec.buffers.activation_kib * 1024 * (1.0 if tile_tokens == tokens else share)
    resident = order == "tokens-outer" and cols * tile_tokens * spec.number.activation_bits / 8 <= capacity
    loads, computes, stores = [], [], []
    token_starts, row_starts = range(0, tokens, tile_tokens), range(0, rows, tile_rows)
    if order == "tokens-outer":
        visits = [(t, r) for t in token_starts for r in row_starts]
    else:
        visits = [(t, r) for r in row_starts for t in token_starts]
    for t0, r0 in visits:
        for c0 in range(0, cols, tile_cols):
            some_rows, some_cols = slice(r0, r0 + tile_rows), slice(c0, c0 + tile_cols)
            some_tokens = slice(t0, t0 + tile_tokens)
            part_inputs = inputs[some_tokens, some_cols]
            run = case.run_tile(spec, weights[some_rows, some_cols], kept[some_rows, some_cols], part_inputs, context)
            result.outputs[some_tokens, some_rows] += run.outputs
            result.uses[some_rows, some_cols] += run.uses
            result.compute_cycles += run.cycles
            value_bits = metadata_bits = 0
            for g in range(r0, min(r0 + tile_rows, rows), granule[0]):
                for h in range(c0, min(c0 + tile_cols, cols), granule[1]):
                    values, metadata = case.stored_bits(
                        spec,
                        kept[g : min(g + granule[0], r0 + tile_rows), h : min(h + granule[1], c0 + tile_cols)],
                        width,
                        context,
                    )
                    value_bits += values
                    metadata_bits += metadata
            n_rows, n_cols = kept[some_rows, some_cols].shape
            n_tokens = len(part_inputs)
            scales = 0
            if work.weight_bits is not None and work.weight_bits <= spec.number.weight_bits:
                for c in range(c0, c0 + n_cols):
                    if c % (work.group_size or cols) == 0:
                        scales += n_rows * (spec.number.scale_bits + width)
            weight, metadata, scale = to_bytes(value_bits), to_bytes(metadata_bits), to_bytes(scales)
            load = 0
            new_weights = order == "tokens-outer" or t0 == 0
            new_inputs = not resident or r0 == 0
            if new_weights:
                result.weight_bytes += weight
                result.metadata_bytes += metadata
                result.scale_bytes += scale
                load += weight + metadata + scale
            input_bytes = to_bytes(n_cols * n_tokens * spec.number.activation_bits)
            if new_inputs:
                result.activation_bytes += input_bytes
                load += input_bytes
            output = 0
            if c0 + tile_cols >= cols:
                output = to_bytes(n_rows * n_tokens * spec.number.activation_bits)
                result.output_bytes += output
            # what the buffers deliver and take while the tile computes
            steps = math.ceil(n_tokens / token_step) if stationary == "output" else 1
            row_granules, col_granules = math.ceil(n_rows / granule[0]), math.ceil(n_cols / granule[1])
            sums = n_rows * n_tokens * spec.number.accumulator_bits
            passes = 1 if stationary == "output" else col_granules
            sum_bits = sums * passes + sums * (passes - (1 if c0 == 0 else 0)) + (sums if output else 0)
            traffic = (
                8 * (weight + scale) * steps,
                8 * metadata * steps,
                row_granules * n_cols * n_tokens * spec.number.activation_bits * act_reads,
                sum_bits,
            )
            fills = (8 * (weight + scale) * new_weights, 8 * metadata * new_weights, 8 * input_bytes * new_inputs, 0)
            slowest = run.cycles
            for bits, fill, wide in zip(traffic, fills, spec.buffers.widths, strict=True):
                if wide:
                    slowest = max(slowest, math.ceil((bits + (fill if spec.buffers.ports == 1 else 0)) / 8 / wide))
            loads.append(math.ceil(load / bytes_per_cycle))
            computes.append(slowest)
            stores.append(math.ceil(output / bytes_per_cycle))
    result.cycles = slow_walk(loads, computes, stores, spec.buffers.double)
    result.transfer_cycles = sum(loads) + sum(stores)
    return result
