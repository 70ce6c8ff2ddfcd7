"""The slow, obvious ViTCoD: moves real numbers through lanes cycle by cycle and bytes through one port.

Given only the mask, the settings and the mapping the model says it chose, it recomputes everything else.
"""

import math
import re
from dataclasses import dataclass

import numpy as np

from simulator.accelerators.vitcod import VitcodSpec


@dataclass
class TwinResult:
    outputs: np.ndarray  # (tokens, rows)
    uses: np.ndarray  # (rows, cols) how often each weight was multiplied
    cycles: int
    compute_cycles: int
    weight_bytes: int
    metadata_bytes: int
    activation_bytes: int
    output_bytes: int


@dataclass
class Mapping:
    tile_rows: int
    tile_cols: int
    tile_tokens: int
    n_dense: int
    dense_lanes: int


def parse_mapping(text: str) -> Mapping:
    match = re.fullmatch(r"tile (\d+)x(\d+)x(\d+), (\d+) dense columns on (\d+) lanes", text)
    assert match, text
    return Mapping(*(int(group) for group in match.groups()))


def dense_columns(kept: np.ndarray, spec: VitcodSpec, n_dense: int) -> np.ndarray:
    """The columns above whichever threshold gives as many as the model reports."""
    if n_dense == kept.shape[1]:
        return np.ones(kept.shape[1], dtype=bool)
    for threshold in spec.engines.dense_thresholds:
        dense = np.array([kept[:, c].sum() > threshold * kept.shape[0] for c in range(kept.shape[1])])
        if dense.sum() == n_dense:
            return dense
    raise AssertionError(f"no threshold gives {n_dense} dense columns")


def run_twin(
    spec: VitcodSpec, weights: np.ndarray, kept: np.ndarray, inputs: np.ndarray, mapping: Mapping, weight_bits: int
) -> TwinResult:
    """weights, kept (rows, cols); inputs (tokens, cols), integers."""
    rows, cols = kept.shape
    tokens = len(inputs)
    dense = dense_columns(kept, spec, mapping.n_dense)
    result = TwinResult(
        np.zeros((tokens, rows), dtype=np.int64), np.zeros((rows, cols), dtype=np.int64), 0, 0, 0, 0, 0, 0
    )
    loads, computes, stores = [], [], []
    whole = mapping.tile_tokens == tokens
    buffer_bytes = spec.buffers.activation_kib * 1024 / (1 if whole else 2)
    resident = cols * mapping.tile_tokens * spec.number.activation_bits / 8 <= buffer_bytes
    for t0 in range(0, tokens, mapping.tile_tokens):
        some_tokens = range(t0, min(t0 + mapping.tile_tokens, tokens))
        for r0 in range(0, rows, mapping.tile_rows):
            some_rows = range(r0, min(r0 + mapping.tile_rows, rows))
            for c0 in range(0, cols, mapping.tile_cols):
                some_cols = range(c0, min(c0 + mapping.tile_cols, cols))
                weight, metadata = tile_bytes(spec, kept, dense, some_rows, some_cols, mapping.tile_cols, weight_bits)
                new_inputs = not resident or r0 == 0
                activation = (
                    to_bytes(len(some_cols) * len(some_tokens) * spec.number.activation_bits) if new_inputs else 0
                )
                last = c0 + mapping.tile_cols >= cols
                output = to_bytes(len(some_rows) * len(some_tokens) * spec.number.activation_bits) if last else 0
                spent = sum(
                    run_tile(
                        spec, weights, kept, dense, inputs, token, some_rows, some_cols, mapping.dense_lanes, result
                    )
                    for token in some_tokens
                )
                loads.append(math.ceil((weight + metadata + activation) / spec.bytes_per_cycle))
                computes.append(spent)
                stores.append(math.ceil(output / spec.bytes_per_cycle))
                result.weight_bytes += weight
                result.metadata_bytes += metadata
                result.activation_bytes += activation
                result.output_bytes += output
    result.compute_cycles = sum(computes)
    result.cycles = slow_double_buffer(loads, computes, stores)
    return result


def run_tile(spec, weights, kept, dense, inputs, token, some_rows, some_cols, dense_lanes, result) -> int:
    """One token of one tile, cycle by cycle; returns the cycles."""
    height = spec.array.height
    n_sparse = spec.array.width - dense_lanes
    queues = [[] for _ in range(spec.array.width)]  # each entry: what one lane does in one cycle
    for i, r in enumerate(some_rows):
        dense_part = [c for c in some_cols if dense[c]]
        sparse_part = [c for c in some_cols if not dense[c] and kept[r, c]]
        if dense_part:
            lane = queues[i % dense_lanes]
            lane += [(r, dense_part[k : k + height]) for k in range(0, len(dense_part), height)]
        if sparse_part:
            lane = queues[dense_lanes + i % n_sparse]
            lane += [(r, sparse_part[k : k + height]) for k in range(0, len(sparse_part), height)]
    cycles = 0
    while any(queues):
        cycles += 1
        for lane in queues:
            if lane:
                r, columns = lane.pop(0)
                assert len(columns) <= height
                for c in columns:
                    if kept[r, c]:
                        result.outputs[token, r] += weights[r, c] * inputs[token, c]
                        result.uses[r, c] += 1
    return cycles


def tile_bytes(spec, kept, dense, some_rows, some_cols, tile_cols, weight_bits) -> tuple[int, int]:
    """(weight bytes, metadata bytes) of a tile, counted position by position."""
    weight = metadata = 0
    index_bits = max(1, math.ceil(math.log2(tile_cols)))
    n_sparse_cols = sum(1 for c in some_cols if not dense[c])
    for r in some_rows:
        for c in some_cols:
            if dense[c]:
                weight += weight_bits
            else:
                weight += weight_bits if kept[r, c] else 0
                if spec.engines.metadata == "bitmap":
                    metadata += 1
                else:
                    metadata += index_bits if kept[r, c] else 0
        if spec.engines.metadata == "coordinate" and n_sparse_cols:
            metadata += index_bits + 1
    if 0 < n_sparse_cols < len(some_cols):
        metadata += len(some_cols)
    return to_bytes(weight), to_bytes(metadata)


def to_bytes(bits: int) -> int:
    return math.ceil(bits / 8)


def slow_double_buffer(loads: list[int], computes: list[int], stores: list[int]) -> int:
    """Steps a clock: one port works through its list in order, one array through its tiles."""
    n = len(loads)
    port = []
    for i in range(n):
        port.append(("load", i))
        if i > 0 and stores[i - 1]:
            port.append(("store", i - 1))
    if stores[n - 1]:
        port.append(("store", n - 1))
    group_of, group = [], 0  # output group of each tile
    for i in range(n):
        group_of.append(group)
        group += 1 if stores[i] else 0
    ends: dict[tuple[str, int], int] = {}
    stored: dict[int, int] = {}
    time = 0
    busy_port: tuple[tuple[str, int], int] | None = None
    busy_array: tuple[int, int] | None = None
    next_port = next_compute = 0
    while next_port < len(port) or next_compute < n or busy_port or busy_array:
        moved = True
        while moved:  # all that can happen at this very time
            moved = False
            if busy_port and busy_port[1] == time:
                ends[busy_port[0]] = time
                if busy_port[0][0] == "store":
                    stored[group_of[busy_port[0][1]]] = time
                busy_port, moved = None, True
            if busy_array and busy_array[1] == time:
                ends["compute", busy_array[0]] = time
                busy_array, moved = None, True
            if busy_port is None and next_port < len(port):
                kind, i = port[next_port]
                free = ("compute", i - 2) in ends or i < 2 if kind == "load" else ("compute", i) in ends
                if free:
                    length = loads[i] if kind == "load" else stores[i]
                    busy_port, next_port, moved = ((kind, i), time + length), next_port + 1, True
            if busy_array is None and next_compute < n:
                i = next_compute
                first_of_group = i == 0 or group_of[i] != group_of[i - 1]
                half_free = not first_of_group or group_of[i] < 2 or group_of[i] - 2 in stored
                if ("load", i) in ends and (i == 0 or ("compute", i - 1) in ends) and half_free:
                    busy_array, next_compute, moved = (i, time + computes[i]), i + 1, True
        time += 1
    return max(ends.values())
