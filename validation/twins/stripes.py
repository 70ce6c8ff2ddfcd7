"""The slow bit-serial array: one bit of every weight of a step a cycle, two's complement."""

import numpy as np

from simulator.accelerators.bitserial.stripes import StripesSpec
from validation.twins.twin import TileRun, Twin, any_order, arrangement


def run_arranged(
    spec: StripesSpec, weights: np.ndarray, kept: np.ndarray, inputs: np.ndarray, bits: int, outputs: int, tokens: int
) -> TileRun:
    size = spec.array.group
    rows, cols = kept.shape
    run = TileRun(np.zeros((len(inputs), rows), dtype=np.int64), np.zeros((rows, cols), dtype=np.int64), 0)
    for r0 in range(0, rows, outputs):
        for t0 in range(0, len(inputs), tokens):
            for c0 in range(0, cols, size):
                some = slice(c0, min(c0 + size, cols))
                for bit in range(bits):
                    worth = -(1 << bit) if bit == bits - 1 else 1 << bit
                    for r in range(r0, min(r0 + outputs, rows)):
                        for t in range(t0, min(t0 + tokens, len(inputs))):
                            pairs = zip(weights[r, some], inputs[t, some], strict=True)
                            run.outputs[t, r] += worth * sum(int(x) for w, x in pairs if int(w) >> bit & 1)
                    run.cycles += 1
                run.uses[r0 : r0 + outputs, some] += min(tokens, len(inputs) - t0)
    run.uses *= kept
    return run


def run_layer_at(
    spec: StripesSpec, weights: np.ndarray, kept: np.ndarray, inputs: np.ndarray, bits: int, mapping: str
) -> TileRun:
    """Weights of `bits` bits, under the arrangement that the mapping names. Raises where a weight has more."""
    assert -(1 << bits - 1) <= int(weights.min())
    assert int(weights.max()) < 1 << bits - 1
    return run_arranged(spec, weights, kept, inputs, bits, *arrangement(mapping))


def run_layer(spec: StripesSpec, weights: np.ndarray, kept: np.ndarray, inputs: np.ndarray, mapping: str) -> TileRun:
    """At the machine's bits, as a layer of floats runs."""
    return run_layer_at(spec, weights, kept, inputs, spec.number.weight_bits, mapping)


def dense_compute(spec: StripesSpec, rows: int, cols: int, tokens: int, mapping: str) -> int:
    outputs, side_by_side = arrangement(mapping)
    steps = -(-rows // outputs) * -(-tokens // side_by_side)
    return spec.number.weight_bits * -(-cols // spec.array.group) * steps


TWIN = Twin(
    name="stripes",
    weight_bits=((None, None),),  # cycles follow them: test_bitserial.py runs the twin at others
    machines=(
        ("array.group=4", "array.outputs=4", "array.tokens=4", "array.single_outputs=16", "array.depth=8",
            "buffers.weight_kib=1", "buffers.activation_kib=0.5", "buffers.output_kib=0.25"),
    ),
    full_mask_cycles=dense_compute,
    lane_rows=any_order,
    run_layer=run_layer,
    arranged=True,
)  # fmt: skip
