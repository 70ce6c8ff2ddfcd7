"""The lane-skipping array once more, slow and obvious: real numbers move through the lanes, cycle by cycle."""

from typing import Any

import numpy as np

from prunesim.machines import TileRun, Twin


def lane_by_lane(spec: Any, weights: np.ndarray, kept: np.ndarray, inputs: np.ndarray) -> TileRun:
    """A whole layer: weights and kept (outputs, inputs), inputs (tokens, inputs)."""
    array = spec.array
    rows, cols = kept.shape
    run = TileRun(np.zeros((len(inputs), rows), dtype=np.int64), np.zeros((rows, cols), dtype=np.int64), 0)
    for first in range(0, rows, array.lanes):
        lanes = range(first, min(first + array.lanes, rows))
        for start in range(0, cols, array.depth):
            window = range(start, min(start + array.depth, cols))
            for token in range(0, len(inputs), array.tokens):
                tokens = range(token, min(token + array.tokens, len(inputs)))
                queues = {lane: [column for column in window if kept[lane, column]] for lane in lanes}
                while any(queues.values()):  # one cycle: every lane that has a weight left multiplies it
                    for lane in lanes:
                        if queues[lane]:
                            column = queues[lane].pop(0)
                            for each in tokens:
                                run.outputs[each, lane] += int(weights[lane, column]) * int(inputs[each, column])
                                run.uses[lane, column] += 1
                    run.cycles += 1
    return run


def full_mask_cycles(spec: Any, rows: int, cols: int, tokens: int) -> int:
    """Every lane is full: a cycle for each input, group of outputs and step of tokens."""
    return -(-rows // spec.array.lanes) * cols * -(-tokens // spec.array.tokens)


TWIN = Twin(
    lane_by_lane,
    machines=(
        ("array.lanes=4", "array.depth=16", "array.tokens=2"),
    ),  # small: edges and several windows in every layer
    full_mask_cycles=full_mask_cycles,
    lane_rows=lambda spec: spec.array.lanes,  # outputs of one group may change places
)
