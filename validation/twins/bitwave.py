"""The slow bit-column-serial array: one bit column of every group of a step a cycle, sums by shifts and additions."""

import numpy as np

from simulator.accelerators.bitserial.bitwave import BitWaveSpec
from validation.twins.twin import TileRun, Twin, arrangement


def columns_of(group: np.ndarray) -> list[int]:
    """Bits that any magnitude of the group has."""
    return [b for b in range(16) if any(abs(int(w)) >> b & 1 for w in group)]


def run_arranged(
    spec: BitWaveSpec, weights: np.ndarray, kept: np.ndarray, inputs: np.ndarray, outputs: int, tokens: int
) -> TileRun:
    size = spec.array.group
    rows, cols = kept.shape
    run = TileRun(np.zeros((len(inputs), rows), dtype=np.int64), np.zeros((rows, cols), dtype=np.int64), 0)
    for r0 in range(0, rows, outputs):
        for c0 in range(0, cols, size):
            some = range(r0, min(r0 + outputs, rows))
            queues = {r: columns_of(weights[r, c0 : c0 + size]) for r in some}
            for t0 in range(0, len(inputs), tokens):
                cycle = 0
                while cycle == 0 or any(len(queues[r]) > cycle for r in some):
                    for r in some:
                        if len(queues[r]) <= cycle:
                            continue  # waits for the slowest group
                        bit = queues[r][cycle]
                        for t in range(t0, min(t0 + tokens, len(inputs))):
                            total = 0
                            for c in range(c0, min(c0 + size, cols)):
                                if abs(int(weights[r, c])) >> bit & 1:
                                    total += -int(inputs[t, c]) if weights[r, c] < 0 else int(inputs[t, c])
                            run.outputs[t, r] += total << bit
                    run.cycles += 1
                    cycle += 1
                run.uses[r0 : r0 + outputs, c0 : c0 + size] += min(tokens, len(inputs) - t0)
    run.uses *= kept
    return run


def run_layer(spec: BitWaveSpec, weights: np.ndarray, kept: np.ndarray, inputs: np.ndarray, mapping: str) -> TileRun:
    """Under the arrangement that the mapping names."""
    return run_arranged(spec, weights, kept, inputs, *arrangement(mapping))


def stored_bits(spec: BitWaveSpec, weights: np.ndarray) -> tuple[int, int]:
    """Bits of columns and of indices of a whole layer: a text of bits is written for every group, and measured."""
    size = spec.array.group
    cols = weights.shape[1]
    index_bits = max(spec.number.weight_bits, int(np.abs(weights).max()).bit_length() + 1)
    values = metadata = 0
    for row in weights:
        for c0 in range(0, cols, size):
            group = [int(w) for w in row[c0 : c0 + size]] + [0] * max(0, c0 + size - cols)
            columns = ["".join(str(abs(w) >> b & 1) for w in group) for b in range(index_bits - 1)]
            columns.append("".join("1" if w < 0 else "0" for w in group))
            index = "".join("1" if "1" in column else "0" for column in columns)
            values += len("".join(column for column in columns if "1" in column))
            metadata += len(index)
    return values, metadata


def dense_compute(spec: BitWaveSpec, rows: int, cols: int, tokens: int, mapping: str) -> int:
    """Every weight is 77 = 0b1001101: four columns."""
    outputs, side_by_side = arrangement(mapping)
    return 4 * -(-cols // spec.array.group) * -(-rows // outputs) * -(-tokens // side_by_side)


TWIN = Twin(
    name="bitwave",
    machines=(
        ("array.outputs=4", "array.tokens=4", "array.single_outputs=8", "array.depth=16", "buffers.weight_kib=1",
            "buffers.index_kib=0.5", "buffers.activation_kib=0.5", "buffers.output_kib=0.25"),
        ("array.group=16", "array.outputs=3", "array.tokens=2", "array.single_outputs=5", "array.depth=16",
            "buffers.weight_kib=2", "buffers.output_kib=0.25"),
    ),
    full_mask_cycles=dense_compute,
    not_promised={"full mask is the baseline": "the baseline computes all magnitude columns, whatever the weights"},
    run_layer=run_layer,
    arranged=True,
)  # fmt: skip
