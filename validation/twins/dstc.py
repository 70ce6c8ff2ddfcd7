"""The slow dual-side sparse tensor core: an outer product at a time, `unit_rows` kept weights by `tokens` inputs a
cycle."""

from typing import Any

import numpy as np

from simulator.accelerators.dstc.cycle import DstcSpec
from validation.twins.twin import TileRun, Twin


def run_tile(spec: DstcSpec, weights: np.ndarray, kept: np.ndarray, inputs: np.ndarray, context: Any) -> TileRun:
    """Inputs count as nonzero, whatever their values: activation density 1."""
    array = spec.array
    rows, cols = kept.shape
    run = TileRun(np.zeros((len(inputs), rows), dtype=np.int64), np.zeros((rows, cols), dtype=np.int64), 0)
    for t0 in range(0, len(inputs), array.tokens):
        tokens = range(t0, min(t0 + array.tokens, len(inputs)))
        for r0 in range(0, rows, array.rows * array.otcs):
            for c0 in range(0, cols, array.depth):
                columns = range(c0, min(c0 + array.depth, cols))
                clocks = []
                for core in range(array.otcs):
                    first = r0 + core * array.rows
                    strip = range(first, min(first + array.rows, r0 + array.rows * array.otcs, rows))
                    clocks.append(run_strip(spec, run, weights, kept, inputs, strip, columns, tokens))
                run.cycles += max(clocks)
    return run


def run_strip(spec, run, weights, kept, inputs, strip, columns, tokens) -> int:
    cycles = 0
    for k in columns:
        condensed = [r for r in strip if kept[r, k]]
        while condensed:
            step, condensed = condensed[: spec.array.unit_rows], condensed[spec.array.unit_rows :]
            for r in step:
                run.uses[r, k] += len(tokens)
                for t in tokens:
                    run.outputs[t, r] += int(weights[r, k]) * int(inputs[t, k])
            cycles += 1
    return cycles


def stored_bits(spec: DstcSpec, kept: np.ndarray, weight_bits: int, context: Any) -> tuple[int, int]:
    values = metadata = 0
    for r0 in range(0, kept.shape[0], spec.array.rows):
        for c0 in range(0, kept.shape[1], 16):
            tile = kept[r0 : r0 + spec.array.rows, c0 : c0 + 16]
            values += int(tile.sum()) * weight_bits
            metadata += 1 + (tile.size if tile.any() else 0)
    return values, metadata


def dense_compute(spec: DstcSpec, rows: int, cols: int, tokens: int) -> int:
    array = spec.array
    full, rest = divmod(rows, array.rows * array.otcs)
    steps = full * -(-array.rows // array.unit_rows) + -(-min(rest, array.rows) // array.unit_rows)
    return steps * cols * -(-tokens // array.tokens)


SMALL = ("buffers.weight_kib=4", "buffers.index_kib=1", "buffers.activation_kib=1", "buffers.output_kib=0.25")
TWIN = Twin(
    name="dstc",
    machines=(
        ("array.otcs=2", "array.rows=4", "array.unit_rows=2", "array.tokens=4", *SMALL),
        ("array.otcs=1", "array.rows=5", "array.unit_rows=3", "array.tokens=2", "buffers.double=false", *SMALL),
        ("array.otcs=3", "array.rows=2", "array.unit_rows=8", "array.tokens=1", "array.depth=128", *SMALL),
    ),
    full_mask_cycles=dense_compute,
    lane_rows=lambda spec: spec.array.rows,
    run_tile=run_tile,
    stored_bits=stored_bits,
)
