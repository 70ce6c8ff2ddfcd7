"""The slow sparse tensor core: a granule at a time, a step of tokens at a time, macs products a cycle."""

import numpy as np

from simulator.accelerators.nm.stc import StcSpec
from validation.twins.twin import TileRun, Twin, any_order


def follows(kept: np.ndarray) -> np.ndarray:
    """The first two kept weights of every run of four stay."""
    result = kept.copy()
    for row in result:
        for start in range(0, len(row), 4):
            for extra in np.flatnonzero(row[start : start + 4])[2:]:
                row[start + extra] = False
    return result


def is_sparse(spec: StcSpec, kept: np.ndarray) -> bool:
    return bool((follows(kept) == kept).all())


def run_tile(spec: StcSpec, weights: np.ndarray, kept: np.ndarray, inputs: np.ndarray, sparse: bool) -> TileRun:
    array = spec.array
    rows, cols = kept.shape
    run = TileRun(np.zeros((len(inputs), rows), dtype=np.int64), np.zeros((rows, cols), dtype=np.int64), 0)
    for r0 in range(0, rows, array.rows):
        for c0 in range(0, cols, array.depth):
            for t0 in range(0, len(inputs), array.tokens):
                # every slot of the granule, padding included: a slot is one of the weights the core multiplies
                slots = [
                    (r, c, t)
                    for r in range(r0, r0 + array.rows)
                    for c in slots_of(r, c0, array.depth, kept, sparse)
                    for t in range(t0, t0 + array.tokens)
                ]
                for first in range(0, len(slots), array.macs):
                    for r, c, t in slots[first : first + array.macs]:
                        if c is not None and r < rows and c < cols and t < len(inputs) and kept[r, c]:
                            run.outputs[t, r] += int(weights[r, c]) * int(inputs[t, c])
                            run.uses[r, c] += 1
                    run.cycles += 1
    return run


def slots_of(r: int, c0: int, depth: int, kept: np.ndarray, sparse: bool) -> list[int | None]:
    """Columns that row r multiplies: all, or two of every four, empty where fewer are kept."""
    if not sparse:
        return list(range(c0, c0 + depth))
    slots: list[int | None] = []
    for start in range(c0, c0 + depth, 4):
        found = [c for c in range(start, min(start + 4, kept.shape[1])) if r < len(kept) and kept[r, c]]
        slots += [*found, None, None][:2]
    return slots


def stored_bits(spec: StcSpec, kept: np.ndarray, weight_bits: int, sparse: bool) -> tuple[int, int]:
    rows, cols = kept.shape
    if not sparse:
        return rows * cols * weight_bits, 0
    slots = rows * 2 * -(-cols // 4)
    return slots * weight_bits, slots * 2


def dense_compute(spec: StcSpec, rows: int, cols: int, tokens: int) -> int:
    array = spec.array
    steps = -(-rows // array.rows) * -(-cols // array.depth) * -(-tokens // array.tokens)
    return steps * -(-array.rows * array.depth * array.tokens // array.macs)


SMALL = (
    *("array.macs=8", "array.rows=4", "array.depth=64", "array.tokens=2"),
    *("buffers.weight_kib=2", "buffers.activation_kib=1", "buffers.output_kib=0.25"),
)
# single buffers with one port each, all of limited width
NARROW = (
    *(
        "buffers.double=false",
        "buffers.ports=1",
        "buffers.weight_bytes_per_cycle=16",
        "buffers.index_bytes_per_cycle=3",
    ),
    *("buffers.activation_bytes_per_cycle=2.5", "buffers.output_bytes_per_cycle=7"),
)
TWIN = Twin(
    name="stc",
    machines=(SMALL, (*SMALL, *NARROW)),
    full_mask_cycles=dense_compute,
    lane_rows=any_order,
    layer_kept=is_sparse,
    run_tile=run_tile,
    stored_bits=stored_bits,
    follows=follows,
)
