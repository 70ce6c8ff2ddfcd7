"""The slow EIE: encodes every PE's columns as the paper's lists v and z, then moves inputs through queues, cycle by
cycle."""

import numpy as np

from simulator.accelerators.eie import EieSpec
from validation.twins.twin import TileRun, Twin

Entry = tuple[int | None, int]  # weight (None: padding zero), zeros in front of it


def encode(column: list[int], kept: list[bool]) -> list[Entry]:
    """One PE's part of one column."""
    entries: list[Entry] = []
    zeros = 0
    for weight, keep in zip(column, kept, strict=True):
        if not keep:
            zeros += 1
            continue
        while zeros > 15:
            entries.append((None, 15))
            zeros -= 16
        entries.append((weight, zeros))
        zeros = 0
    return entries


def run_layer(spec: EieSpec, weights: np.ndarray, kept: np.ndarray, inputs: np.ndarray) -> TileRun:
    pes, depth = spec.array.pes, spec.array.fifo_depth
    rows, cols = kept.shape
    result = TileRun(np.zeros((len(inputs), rows), np.int64), np.zeros((rows, cols), np.int64), 0)
    code = [[encode(list(weights[p::pes, c]), list(kept[p::pes, c])) for c in range(cols)] for p in range(pes)]
    for t in range(len(inputs)):
        waiting = list(range(cols))  # dense inputs: all are broadcast, zeros too
        queues: list[list[list]] = [[] for _ in range(pes)]  # of [column, entries left, next row of the PE's own]
        while waiting or any(queues):
            if waiting and all(len(queue) < depth for queue in queues):
                c = waiting.pop(0)
                for p in range(pes):
                    queues[p].append([c, list(code[p][c]), 0])
            for p, queue in enumerate(queues):
                if not queue:
                    continue
                c, left, place = queue[0]
                if left:
                    weight, zeros = left.pop(0)
                    row = (place + zeros) * pes + p
                    queue[0][2] = place + zeros + 1
                    if weight is not None:
                        result.outputs[t, row] += weight * int(inputs[t, c])
                        result.uses[row, c] += 1
                if not left:
                    queue.pop(0)
            result.cycles += 1
    return result


def dense_compute(spec: EieSpec, rows: int, cols: int, tokens: int) -> int:
    return tokens * cols * -(-rows // spec.array.pes)


ROOM = ("buffers.weight_kib=64", "buffers.index_kib=64", "buffers.activation_kib=2", "buffers.output_kib=1")
TWIN = Twin(
    name="eie",
    machines=(
        ("array.pes=4", "array.fifo_depth=2", *ROOM),
        ("array.pes=1", "array.fifo_depth=1", *ROOM),
        ("array.pes=3", "array.fifo_depth=1", *ROOM),
        ("array.pes=64", "array.fifo_depth=8", *ROOM, "buffers.double=false", "buffers.index_bytes_per_cycle=64"),
    ),
    full_mask_cycles=dense_compute,
    run_layer=run_layer,
)
