"""The slow two-rank array: a run of blocks a cycle, its slots found one by one."""

import itertools
import math

import numpy as np

from simulator.accelerators.nm.highlight import HighlightSpec
from validation.twins.twin import TileRun, Twin, any_order


def blocks_of(row: np.ndarray, inner_of: int) -> list[list[int]]:
    """Kept columns of every block."""
    return [[c for c in range(s, min(s + inner_of, len(row))) if row[c]] for s in range(0, len(row), inner_of)]


def holds(spec: HighlightSpec, kept: np.ndarray, inner_of: int, outer_of: int) -> bool:
    array = spec.array
    for row in kept:
        blocks = blocks_of(row, inner_of)
        if any(len(block) > array.inner_n for block in blocks):
            return False
        for first in range(0, len(blocks), outer_of):
            if sum(bool(block) for block in blocks[first : first + outer_of]) > array.outer_n:
                return False
    return True


def metadata_of_run(spec: HighlightSpec, inner_of: int, outer_of: int) -> int:
    array = spec.array
    value = math.ceil(math.log2(inner_of)) if inner_of > array.inner_n else 0
    block = math.ceil(math.log2(outer_of)) if outer_of > array.outer_n else 0
    return array.inner_n * array.outer_n * value + array.outer_n * block


def best_pair(spec: HighlightSpec, kept: np.ndarray) -> tuple[int, int]:
    """Of fewest slots, then least metadata, then the shortest blocks."""
    array = spec.array
    pairs = itertools.product(
        range(array.inner_n, array.inner_most + 1), range(array.outer_n, array.outer_most + 1)
    )  # 4:4 x 2:2 holds anything
    held = [pair for pair in pairs if holds(spec, kept, *pair)]
    return min(held, key=lambda pair: (1 / (pair[0] * pair[1]), metadata_of_run(spec, *pair), pair))


def run_tile(
    spec: HighlightSpec, weights: np.ndarray, kept: np.ndarray, inputs: np.ndarray, pair: tuple[int, int]
) -> TileRun:
    array = spec.array
    inner_of, outer_of = pair
    rows, cols = kept.shape
    run = TileRun(np.zeros((len(inputs), rows), dtype=np.int64), np.zeros((rows, cols), dtype=np.int64), 0)
    for r0 in range(0, rows, array.rows):
        for c0 in range(0, cols, inner_of * outer_of):
            for t in range(len(inputs)):
                for r in range(r0, min(r0 + array.rows, rows)):
                    filled = [b for b in blocks_of(kept[r, c0 : c0 + inner_of * outer_of], inner_of) if b]
                    assert len(filled) <= array.outer_n
                    for block in filled:
                        assert len(block) <= array.inner_n
                        for c in block:
                            run.outputs[t, r] += int(weights[r, c0 + c]) * int(inputs[t, c0 + c])
                            run.uses[r, c0 + c] += 1
                run.cycles += 1
    return run


def stored_bits(spec: HighlightSpec, kept: np.ndarray, weight_bits: int, pair: tuple[int, int]) -> tuple[int, int]:
    rows, cols = kept.shape
    array = spec.array
    if pair == (array.inner_n, array.outer_n):
        return rows * cols * weight_bits, 0
    runs = rows * -(-cols // (pair[0] * pair[1]))
    return runs * array.inner_n * array.outer_n * weight_bits, runs * metadata_of_run(spec, *pair)


def dense_compute(spec: HighlightSpec, rows: int, cols: int, tokens: int) -> int:
    return tokens * -(-rows // spec.array.rows) * -(-cols // (spec.array.inner_n * spec.array.outer_n))


def follows(kept: np.ndarray) -> np.ndarray:
    """Of every 32 inputs the first two blocks of 8 that keep any stay, with their first four weights."""
    result = np.zeros_like(kept)
    for r, row in enumerate(kept):
        for c0 in range(0, len(row), 32):
            for block in [b for b in blocks_of(row[c0 : c0 + 32], 8) if b][:2]:
                result[r, [c0 + c for c in block[:4]]] = True
    return result


TWIN = Twin(
    name="highlight",
    machines=(
        ("array.rows=4", "array.runs=2", "buffers.weight_kib=1", "buffers.index_kib=0.5", "buffers.activation_kib=0.5",
            "buffers.output_kib=0.25"),
        ("array.rows=3", "array.runs=1", "array.inner_n=2", "array.inner_most=4", "array.outer_n=4",
            "array.outer_most=8", "buffers.weight_kib=1", "buffers.output_kib=0.25"),
    ),
    full_mask_cycles=dense_compute,
    lane_rows=any_order,
    layer_kept=best_pair,
    run_tile=run_tile,
    stored_bits=stored_bits,
    follows=follows,
)  # fmt: skip
