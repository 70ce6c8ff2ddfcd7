"""The slow systolic array: registers that shift by one element a cycle, skewed operands at the edges, fold by fold."""

import numpy as np

from simulator.accelerators.systolic.cycle import SystolicSpec
from validation.twins.twin import TileRun, Twin, any_order

Slots = list[list[int | None]]  # for every output: the input that each of its slots multiplies, None for an empty one


def run_layer(spec: SystolicSpec, weights: np.ndarray, kept: np.ndarray, inputs: np.ndarray) -> TileRun:
    """The number of the cycle that the last result leaves in, counted from 0, is what SCALE-Sim calls the cycles."""
    rows, cols = kept.shape
    run = TileRun(np.zeros((len(inputs), rows), dtype=np.int64), np.zeros((rows, cols), dtype=np.int64), 0)
    flows = {"ws": weights_stay, "is": inputs_stay, "os": outputs_stay}
    flows[spec.array.dataflow](spec, weights * kept, kept, inputs, run)
    run.cycles -= 1
    return run


def slots_of(spec: SystolicSpec, kept: np.ndarray) -> Slots:
    """Every input its own slot; or N slots for every M inputs, where no output keeps more."""
    rows, cols = kept.shape
    every: Slots = [list(range(cols)) for _ in range(rows)]
    if spec.array.nm == "dense":
        return every
    n, m = (int(part) for part in spec.array.nm.split(":"))
    packed: Slots = []
    for row in kept:
        slots: list[int | None] = []
        for start in range(0, cols, m):
            found = [c for c in range(start, min(start + m, cols)) if row[c]]
            if len(found) > n:
                return every
            slots += found + [None] * (n - len(found))
        packed.append(slots)
    return packed


def groups(total: int, size: int) -> list[range]:
    return [range(start, min(start + size, total)) for start in range(0, total, size)]


def side_by_side(spec: SystolicSpec, total: int) -> list[list[range]]:
    """Columns of every step: up to `count` arrays, a group of `cols` each."""
    columns = groups(total, spec.array.cols)
    return [columns[i : i + spec.array.count] for i in range(0, len(columns), spec.array.count)]


def weights_stay(spec: SystolicSpec, weights: np.ndarray, kept: np.ndarray, inputs: np.ndarray, run: TileRun) -> None:
    slots = slots_of(spec, kept)
    for arrays in side_by_side(spec, len(kept)):
        for depth in groups(len(slots[0]), spec.array.rows):
            times = []
            for outputs in arrays:
                # the input that each element's weight wants, -1: none
                held = np.full((spec.array.rows, spec.array.cols), -1)
                values = np.zeros_like(held)
                for r, place in enumerate(depth):
                    for c, output in enumerate(outputs):
                        wanted = slots[output][place]
                        if wanted is not None:
                            held[r, c], values[r, c] = wanted, weights[output, wanted]
                sums, cycles = stream_through(values, held, inputs)
                times.append(cycles)
                for c, output in enumerate(outputs):
                    run.outputs[:, output] += sums[:, c]
                    for r in range(len(depth)):
                        if held[r, c] >= 0 and kept[output, held[r, c]]:
                            run.uses[output, held[r, c]] += len(inputs)
            run.cycles += max(times)


def stream_through(values: np.ndarray, held: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, int]:
    """One fold whose operand `values` stays: what leaves at the bottom, (vectors, columns), and the cycles it took.

    An element that holds a weight of input `held` picks that input out of the vector that passes, so vectors pass
    whole.
    """
    rows, cols = values.shape
    cycles = 0
    stationary = np.zeros_like(values)
    for r in range(rows):  # the operand is pushed in from the top, its last row first
        stationary[1:] = stationary[:-1].copy()
        stationary[0] = values[rows - 1 - r]
        cycles += 1
    assert np.array_equal(stationary, values)
    passing = np.full((rows, cols), -1)  # number of the vector at every element, -1: none
    sums = np.zeros((rows, cols), dtype=np.int64)
    results = np.zeros((len(vectors), cols), dtype=np.int64)
    left = 0
    step = 0
    while left < len(vectors) * cols:
        passing[:, 1:] = passing[:, :-1].copy()
        for r in range(rows):  # row r starts r cycles after the first
            passing[r, 0] = step - r if 0 <= step - r < len(vectors) else -1
        above = np.vstack([np.zeros((1, cols), dtype=np.int64), sums[:-1]])
        chosen = np.where((passing >= 0) & (held >= 0), vectors[np.maximum(passing, 0), np.maximum(held, 0)], 0)
        sums = above + stationary * chosen
        for c in range(cols):
            if passing[-1, c] >= 0:
                results[passing[-1, c], c] = sums[-1, c]
                left += 1
        step += 1
    return results, cycles + step


def inputs_stay(spec: SystolicSpec, weights: np.ndarray, kept: np.ndarray, inputs: np.ndarray, run: TileRun) -> None:
    """The array of `weights_stay` with tokens for outputs and rows of W for tokens."""
    for arrays in side_by_side(spec, len(inputs)):
        for depth in groups(kept.shape[1], spec.array.rows):
            times = []
            for tokens in arrays:
                held = np.full((spec.array.rows, spec.array.cols), -1)
                values = np.zeros_like(held)
                for r, place in enumerate(depth):
                    for c, token in enumerate(tokens):
                        held[r, c], values[r, c] = place, inputs[token, place]
                sums, cycles = stream_through(values, held, weights)
                times.append(cycles)
                for c, token in enumerate(tokens):
                    run.outputs[token] += sums[:, c]
                run.uses[:, list(depth)] += kept[:, list(depth)] * len(tokens)
            run.cycles += max(times)


def outputs_stay(spec: SystolicSpec, weights: np.ndarray, kept: np.ndarray, inputs: np.ndarray, run: TileRun) -> None:
    for tokens in groups(len(inputs), spec.array.rows):
        for arrays in side_by_side(spec, len(kept)):
            times = []
            for outputs in arrays:
                sums, uses, cycles = meet(
                    spec.array.rows, spec.array.cols, inputs[list(tokens)], weights[list(outputs)]
                )
                times.append(cycles)
                run.outputs[np.ix_(list(tokens), list(outputs))] = sums
                run.uses[list(outputs)] += uses * kept[list(outputs)]
            run.cycles += max(times)


def meet(rows: int, cols: int, inputs: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """One fold whose sums stay: inputs (tokens, K) come from the left, weights (outputs, K) from the top, and meet.

    The array is clocked until the last element, used or not, has seen all of K: its edges are padded.
    """
    depth = inputs.shape[1]
    from_left, from_top = (np.full((rows, cols), -1) for _ in range(2))  # place in K at every element
    sums = np.zeros((rows, cols), dtype=np.int64)
    uses = np.zeros(weights.shape, dtype=np.int64)
    seen = np.zeros((rows, cols), dtype=np.int64)
    step = 0
    while seen.min() < depth:
        from_left[:, 1:] = from_left[:, :-1].copy()
        from_top[1:] = from_top[:-1].copy()
        for r in range(rows):
            from_left[r, 0] = step - r if 0 <= step - r < depth else -1
        for c in range(cols):
            from_top[0, c] = step - c if 0 <= step - c < depth else -1
        assert np.array_equal(from_left, from_top)  # operands of the same place in K meet
        for r, c in np.argwhere(from_left >= 0):
            seen[r, c] += 1
            if r < len(inputs) and c < len(weights):
                place = from_left[r, c]
                sums[r, c] += inputs[r, place] * weights[c, place]
                uses[c, place] += 1
        step += 1
    return sums[: len(inputs), : len(weights)], uses, step


def dense_compute(spec: SystolicSpec, rows: int, cols: int, tokens: int) -> int:
    array = spec.array
    r, c, wide = array.rows, array.cols, array.cols * array.count
    if array.dataflow == "ws":
        return -(-cols // r) * -(-rows // wide) * (2 * r + c + tokens - 2) - 1
    if array.dataflow == "os":
        return -(-tokens // r) * -(-rows // wide) * (cols + r + c - 2) - 1
    return -(-cols // r) * -(-tokens // wide) * (2 * r + c + rows - 2) - 1


SMALL = ("array.rows=4", "array.cols=3", "buffers.weight_kib=0.25", "buffers.index_kib=0.0625",
    "buffers.activation_kib=0.25", "buffers.output_kib=0.25", "dram.bandwidth_gbps=8")  # fmt: skip

TWIN = Twin(
    name="systolic",
    machines=(
        (*SMALL, "array.dataflow=ws"),
        (*SMALL, "array.dataflow=os"),
        (*SMALL, "array.dataflow=is"),
        (*SMALL, "array.dataflow=ws", "array.nm=2:4"),
        (*SMALL, "array.dataflow=ws", "array.count=3", "buffers.double=false"),
    ),
    full_mask_cycles=dense_compute,
    lane_rows=any_order,
    run_layer=run_layer,
)
