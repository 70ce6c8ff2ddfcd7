"""The slow matrix engine: rows of a tile packed into lanes, MAC by MAC, a filling and a token at a time."""

import numpy as np

from simulator.accelerators.nm.vegeta import VegetaSpec
from validation.twins.twin import TileRun, Twin


def cover(row: np.ndarray) -> int:
    """1, 2 or 4: the smallest N that every four of the row keeps at most."""
    most = max((int(row[c : c + 4].sum()) for c in range(0, len(row), 4)), default=0)
    return 1 if most <= 1 else 2 if most == 2 else 4


def lanes_of(row: np.ndarray) -> list[list[int | None]]:
    """Lane i holds the i-th kept column of every four of the row."""
    fours = [[c for c in range(s, min(s + 4, len(row))) if row[c]] for s in range(0, len(row), 4)]
    return [[four[i] if i < len(four) else None for four in fours] for i in range(cover(row))]


def run_tile(spec: VegetaSpec, weights: np.ndarray, kept: np.ndarray, inputs: np.ndarray, context: object) -> TileRun:
    array = spec.array
    rows, cols = kept.shape
    run = TileRun(np.zeros((len(inputs), rows), dtype=np.int64), np.zeros((rows, cols), dtype=np.int64), 0)
    for r0 in range(0, rows, array.group_rows):
        for c0 in range(0, cols, array.depth):
            group = range(r0, min(r0 + array.group_rows, rows))
            packed = {r: lanes_of(kept[r, c0 : c0 + array.depth]) for r in group}
            order = sorted(group, key=lambda r: -len(packed[r]))
            lanes = [(r, lane) for r in order for lane in packed[r]]
            for t0 in range(0, len(inputs), array.tokens):
                for first in range(0, len(lanes), array.lanes):
                    filling = lanes[first : first + array.lanes]
                    for t in range(t0, t0 + array.tokens):  # a register is as wide whether full or not
                        if t < len(inputs):
                            for r, lane in filling:
                                for c in lane:
                                    if c is not None:
                                        run.outputs[t, r] += int(weights[r, c0 + c]) * int(inputs[t, c0 + c])
                                        run.uses[r, c0 + c] += 1
                        run.cycles += 1
    return run


def stored_bits(spec: VegetaSpec, kept: np.ndarray, weight_bits: int, context: object) -> tuple[int, int]:
    rows, cols = kept.shape
    covers = [cover(row) for row in kept]
    if all(n == 4 for n in covers):
        return rows * cols * weight_bits, 0
    slots = sum(n * -(-cols // 4) for n in covers)
    return slots * weight_bits, slots * 2 + rows * 2


def dense_compute(spec: VegetaSpec, rows: int, cols: int, tokens: int) -> int:
    """A last tile of one or two inputs takes one or two lanes a row."""
    array = spec.array
    full, rest = divmod(rows, array.group_rows)
    whole, last = divmod(cols, array.depth)
    fillings = 0
    for lanes, tiles in ((4, whole + (last > 2)), (last, 1 if last in (1, 2) else 0)):
        fillings += tiles * (full * -(-lanes * array.group_rows // array.lanes) + -(-lanes * rest // array.lanes))
    return fillings * array.tokens * -(-tokens // array.tokens)


TWIN = Twin(
    name="vegeta",
    machines=(
        ("array.lanes=8", "array.blocks=4", "array.tokens=4", "array.group_rows=8", "buffers.weight_kib=1",
            "buffers.activation_kib=0.5", "buffers.output_kib=0.5", "buffers.index_kib=0.5"),
        ("array.lanes=6", "array.blocks=17", "array.tokens=2", "array.group_rows=5", "buffers.weight_kib=4",
            "buffers.activation_kib=1", "buffers.output_kib=0.25", "buffers.index_kib=2"),
    ),
    full_mask_cycles=dense_compute,
    lane_rows=lambda spec: spec.array.group_rows,
    run_tile=run_tile,
    stored_bits=stored_bits,
)  # fmt: skip
