"""The slow, obvious ViTCoD: moves real numbers through lanes cycle by cycle and bytes through one port.

Given only the mask, the settings and the mapping the model says it chose, it recomputes everything else.
"""

import math
import re
from dataclasses import dataclass, field

import numpy as np

from simulator.accelerators.vitcod.spec import VitcodSpec
from simulator.cycles import LayerCycles
from simulator.work import Work
from validation.twins.clock import stepped_clock
from validation.twins.twin import TileRun, Twin


@dataclass
class TwinResult:
    outputs: np.ndarray  # (tokens, rows)
    uses: np.ndarray  # (rows, cols) how often each weight was multiplied
    cycles: int = 0
    compute_cycles: int = 0
    transfer_cycles: int = 0
    buffer_cycles: int = 0
    weight_bytes: int = 0
    metadata_bytes: int = 0
    scale_bytes: int = 0
    activation_bytes: int = 0
    output_bytes: int = 0
    read_bits: list[int] = field(default_factory=lambda: [0, 0, 0, 0])  # weight, index, activation, output buffer
    write_bits: list[int] = field(default_factory=lambda: [0, 0, 0, 0])


@dataclass
class Mapping:
    tile_rows: int
    tile_cols: int
    tile_tokens: int
    n_dense: int
    dense_lanes: int


@dataclass
class Bus:
    """The DRAM port: whole bursts, and idle cycles around every store."""

    bytes_per_cycle: float
    burst_bytes: int = 1
    turnaround_cycles: int = 0
    store_share: float = 1.0  # of the rate of loads

    def load(self, number_of_bytes: int, share: float = 1.0) -> int:
        moved = math.ceil(number_of_bytes / self.burst_bytes) * self.burst_bytes
        return math.ceil(moved / (self.bytes_per_cycle * share))

    def store(self, number_of_bytes: int) -> int:
        return self.load(number_of_bytes, self.store_share) + self.turnaround_cycles if number_of_bytes else 0


def generic_bus(spec: VitcodSpec) -> Bus:
    return Bus(spec.dram.bandwidth_gbps * 1e3 * spec.dram.efficiency / spec.clock.mhz)


def parse_mapping(text: str) -> Mapping:
    match = re.fullmatch(r"tile (\d+)x(\d+)x(\d+), (\d+) dense columns on (\d+) lanes", text)
    assert match, text
    return Mapping(*(int(group) for group in match.groups()))


def above(kept: np.ndarray, threshold: float) -> np.ndarray:
    return np.array([kept[:, c].sum() > threshold * kept.shape[0] for c in range(kept.shape[1])])


def dense_columns(kept: np.ndarray, spec: VitcodSpec, n_dense: int) -> np.ndarray:
    """The columns above whichever threshold gives as many as the model reports."""
    if n_dense == kept.shape[1]:
        return np.ones(kept.shape[1], dtype=bool)
    for threshold in spec.engines.dense_thresholds:
        dense = above(kept, threshold)
        if dense.sum() == n_dense:
            return dense
    raise AssertionError(f"no threshold gives {n_dense} dense columns")


def run_twin(
    spec: VitcodSpec, weights: np.ndarray, kept: np.ndarray, inputs: np.ndarray, mapping: Mapping, work: Work,
    bus: Bus | None = None,
) -> TwinResult:  # fmt: skip
    """weights, kept (rows, cols); inputs (tokens, cols), integers."""
    rows, cols = kept.shape
    tokens = len(inputs)
    bus = bus or generic_bus(spec)
    dense = dense_columns(kept, spec, mapping.n_dense)
    result = TwinResult(np.zeros((tokens, rows), dtype=np.int64), np.zeros((rows, cols), dtype=np.int64))
    loads, computes, stores = [], [], []
    alone = mapping.tile_tokens == tokens or not spec.buffers.double
    buffer_bytes = spec.buffers.activation_kib * 1024 / (1 if alone else 2)
    resident = cols * mapping.tile_tokens * spec.number.activation_bits / 8 <= buffer_bytes
    touched = np.zeros((tokens, rows), dtype=bool)  # outputs that have a partial sum
    for t0 in range(0, tokens, mapping.tile_tokens):
        some_tokens = range(t0, min(t0 + mapping.tile_tokens, tokens))
        for r0 in range(0, rows, mapping.tile_rows):
            some_rows = range(r0, min(r0 + mapping.tile_rows, rows))
            for c0 in range(0, cols, mapping.tile_cols):
                some_cols = range(c0, min(c0 + mapping.tile_cols, cols))
                weight, metadata, scale = tile_bytes(spec, kept, dense, some_rows, some_cols, mapping.tile_cols, work)
                new_inputs = not resident or r0 == 0
                activation = (
                    to_bytes(len(some_cols) * len(some_tokens) * spec.number.activation_bits) if new_inputs else 0
                )
                last = c0 + mapping.tile_cols >= cols
                output = to_bytes(len(some_rows) * len(some_tokens) * spec.number.activation_bits) if last else 0
                spent = 0
                reads = [0, 0, 0, 0]
                sums_written = 0
                for token in some_tokens:
                    cycles, inputs_read = run_tile(
                        spec, weights, kept, dense, inputs, token, some_rows, some_cols, mapping.dense_lanes, result
                    )
                    spent += cycles
                    reads[0] += 8 * (weight + scale)
                    reads[1] += 8 * metadata
                    reads[2] += inputs_read * spec.number.activation_bits
                    for engine in (True, False):
                        if any(dense[c] == engine for c in some_cols):
                            for r in some_rows:
                                reads[3] += spec.number.accumulator_bits if touched[token, r] else 0
                                sums_written += spec.number.accumulator_bits
                                touched[token, r] = True
                    if last:
                        reads[3] += len(some_rows) * spec.number.accumulator_bits
                fills = [8 * (weight + scale), 8 * metadata, 8 * activation]
                waits = [0]
                for b, width in enumerate(spec.buffers.widths):
                    traffic = reads[b] + (sums_written if b == 3 else fills[b] if spec.buffers.ports == 1 else 0)
                    waits.append(math.ceil(traffic / 8 / width) if width else 0)
                loads.append(bus.load(weight + metadata + scale + activation))
                computes.append(max(spent, *waits))
                stores.append(bus.store(output))
                result.compute_cycles += spent
                result.buffer_cycles += computes[-1] - spent
                result.weight_bytes += weight
                result.metadata_bytes += metadata
                result.scale_bytes += scale
                result.activation_bytes += activation
                result.output_bytes += output
                for b in range(4):
                    result.read_bits[b] += reads[b]
                    result.write_bits[b] += [*fills, sums_written][b]
    result.transfer_cycles = sum(loads) + sum(stores)
    result.cycles = stepped_clock(loads, computes, stores, spec.buffers.double)
    return result


def twin_of(spec: VitcodSpec, kept: np.ndarray, mapping: str, work: Work, bus: Bus | None = None) -> TwinResult:
    """The twin, its products checked; the model's figures are compared by `assert_agrees`."""
    rng = np.random.default_rng(1)
    weights, inputs = rng.integers(-50, 50, kept.shape), rng.integers(-50, 50, (work.tokens, kept.shape[1]))
    twin = run_twin(spec, weights, kept, inputs, parse_mapping(mapping), work, bus)
    assert (twin.outputs == inputs @ (weights * kept).T).all()
    assert (twin.uses == kept * work.tokens).all()
    return twin


def assert_agrees(found: LayerCycles, twin: TwinResult) -> None:
    for name in ("cycles", "compute_cycles", "transfer_cycles", "buffer_cycles", "weight_bytes", "metadata_bytes",
        "scale_bytes",
                 "activation_bytes", "output_bytes"):  # fmt: skip
        assert getattr(found, name) == getattr(twin, name), name
    assert found.actions
    assert found.actions.read_bits == tuple(twin.read_bits)
    assert found.actions.write_bits == tuple(twin.write_bits)


def run_tile(spec, weights, kept, dense, inputs, token, some_rows, some_cols, dense_lanes, result) -> tuple[int, int]:
    """One token of one tile, cycle by cycle; returns the cycles and the inputs read."""
    height = spec.array.height
    n_sparse = spec.array.width - dense_lanes
    # an entry: what one lane does in one cycle, (row, columns)
    queues: list[list[tuple[int, list[int]]]] = [[] for _ in range(spec.array.width)]
    for i, r in enumerate(some_rows):
        dense_part = [c for c in some_cols if dense[c]]
        sparse_part = [c for c in some_cols if not dense[c] and kept[r, c]]
        if dense_part:
            lane = queues[i % dense_lanes]
            lane += [(r, dense_part[k : k + height]) for k in range(0, len(dense_part), height)]
        if sparse_part:
            lane = queues[dense_lanes + i % n_sparse]
            lane += [(r, sparse_part[k : k + height]) for k in range(0, len(sparse_part), height)]
    cycles = inputs_read = 0
    while any(queues):
        cycles += 1
        broadcast = set()  # the lanes of the denser engine share what they read in a cycle
        for k, lane in enumerate(queues):
            if lane:
                r, columns = lane.pop(0)
                assert len(columns) <= height
                if k < dense_lanes:
                    broadcast |= set(columns)
                else:
                    inputs_read += len(columns)
                for c in columns:
                    if kept[r, c]:
                        result.outputs[token, r] += weights[r, c] * inputs[token, c]
                        result.uses[r, c] += 1
        inputs_read += len(broadcast)
    return cycles, inputs_read


def tile_bytes(spec, kept, dense, some_rows, some_cols, tile_cols, work) -> tuple[int, int, int]:
    """(weight, metadata, scale) bytes of a tile, counted position by position."""
    weight = metadata = scale = 0
    weight_bits = min(work.weight_bits or spec.number.weight_bits, spec.number.weight_bits)
    quantized = work.weight_bits is not None and work.weight_bits <= spec.number.weight_bits
    index_bits = max(1, math.ceil(math.log2(tile_cols)))
    n_sparse_cols = sum(1 for c in some_cols if not dense[c])
    for r in some_rows:
        for c in some_cols:
            if quantized and c % (work.group_size or kept.shape[1]) == 0:
                scale += spec.number.scale_bits + weight_bits
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
    return to_bytes(weight), to_bytes(metadata), to_bytes(scale)


def to_bytes(bits: int) -> int:
    return math.ceil(bits / 8)


# The contract suite: tile sides and the threshold are fixed, so that computing does not hang on the mapper's choice.


def run_layer(spec: VitcodSpec, weights: np.ndarray, kept: np.ndarray, inputs: np.ndarray) -> TileRun:
    dense = above(kept, spec.engines.dense_thresholds[0])
    dense_work = int(dense.sum()) * len(kept)
    sparse_work = int(kept[:, ~dense].sum())
    lanes = 0
    if dense_work:
        lanes = round(spec.array.width * dense_work / (dense_work + sparse_work))
        if sparse_work:
            lanes = min(max(lanes, 1), spec.array.width - 1)
    mapping = Mapping(spec.mapping.tile_rows, spec.mapping.tile_cols, len(inputs), int(dense.sum()), lanes)
    rows, cols = kept.shape
    twin = run_twin(spec, weights, kept, inputs, mapping, Work(rows, cols, int(kept.sum()), len(inputs)))
    return TileRun(twin.outputs, twin.uses, twin.compute_cycles)


def dense_compute(spec: VitcodSpec, rows: int, cols: int, tokens: int) -> int:
    """Whole rounds of all lanes; `height` divides the 64 columns that tiles are multiples of."""
    return -(-rows // spec.array.width) * -(-cols // spec.array.height) * tokens


SMALL = ("array.width=4", "array.height=4", "buffers.weight_kib=2", "buffers.index_kib=0.5", "buffers.output_kib=0.25",
         "buffers.activation_kib=0.5", "dram.bandwidth_gbps=2.5")  # fmt: skip
TWIN = Twin(
    name="vitcod",
    machines=(
        (*SMALL, "mapping.tile_rows=4", "mapping.tile_cols=64", "engines.dense_thresholds=[0.6]"),
        (*SMALL, "mapping.tile_rows=8", "mapping.tile_cols=64", "engines.dense_thresholds=[1.0]"),
    ),
    full_mask_cycles=dense_compute,
    not_promised={
        "more zeros": "a weight moved from the denser to the sparser engine can cost cycles",
    },
    run_layer=run_layer,
)
