"""The buffer tiles of a plan by loops over folds, one buffer tile at a time: what systolic_stream.py does with whole
arrays."""

import math
from dataclasses import dataclass, field

from simulator.accelerators.systolic.stream import Fabric, Gemm, Plan


@dataclass
class Slow:
    """Per buffer tile in order: bytes loaded of weights, metadata, scales, inputs, sums; cycles; bytes stored; and
    totals of bits."""

    loads: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    compute: list[int] = field(default_factory=list)
    stores: list[int] = field(default_factory=list)
    weight_reads: int = 0  # values and metadata, scales left out
    input_reads: int = 0
    sum_reads: int = 0
    sum_writes: int = 0


def to_bytes(bits: int) -> int:
    return math.ceil(bits / 8)


def blocks(total: int, size: int) -> list[range]:
    return [range(start, min(start + size, total)) for start in range(0, total, size)]


def scales_of(gemm: Gemm, outputs: range, inputs: range) -> int:
    group = gemm.group_size or gemm.inputs
    return to_bytes(len(outputs) * sum(i % group == 0 for i in inputs) * gemm.scale_bits)


def slow_moving(gemm: Gemm, fabric: Fabric, dataflow: str, plan: Plan) -> Slow:
    slow = Slow()
    across, length = (gemm.outputs, gemm.tokens) if dataflow == "ws" else (gemm.tokens, gemm.outputs)
    inner_blocks = blocks(gemm.slots, plan.inner * fabric.rows)
    for i, wide in enumerate(blocks(across, plan.outer * fabric.cols)):
        seen = 0
        for j, slots in enumerate(inner_blocks):
            touched = sorted(
                {x for s in slots for x in range(s // gemm.n * gemm.m, min((s // gemm.n + 1) * gemm.m, gemm.inputs))}
            )
            owned = range(seen, max(touched[-1] + 1, seen))
            seen = owned.stop
            for c, stream in enumerate(blocks(length, plan.chunk)):
                outputs, tokens = (wide, stream) if dataflow == "ws" else (stream, wide)
                weights = to_bytes(len(outputs) * len(slots) * gemm.weight_bits)
                metadata = to_bytes(len(outputs) * len(slots) * gemm.index_bits)
                scales = scales_of(gemm, outputs, owned)
                inputs = to_bytes(len(touched) * len(tokens) * gemm.activation_bits)
                cycles = 0
                for _ in blocks(len(wide), fabric.cols):
                    for _ in blocks(len(slots), fabric.rows):
                        cycles += len(stream) + (fabric.fill_cycles if c == 0 else 0)
                results = len(wide) * len(stream) * gemm.sum_bits
                folds_deep = len(blocks(len(slots), fabric.rows))
                slow.sum_writes += results * (folds_deep + (1 if plan.spilled and j else 0))
                folds_wide = len(blocks(len(wide), fabric.cols))
                if dataflow == "ws":
                    slow.weight_reads += (weights + metadata) * 8 if c == 0 else 0
                    slow.input_reads += inputs * 8 * folds_wide
                else:
                    slow.weight_reads += (weights + metadata) * 8 * folds_wide
                    slow.input_reads += inputs * 8 if c == 0 else 0
                stays, passes = c == 0, not plan.resident or i == 0
                loads_w, loads_x = (stays, passes) if dataflow == "ws" else (passes, stays)
                last = j == len(inner_blocks) - 1
                sums = to_bytes(results) if plan.spilled and j else 0
                slow.loads.append((weights * loads_w, metadata * loads_w, scales * loads_w, inputs * loads_x, sums))
                slow.compute.append(cycles)
                done = to_bytes(len(wide) * len(stream) * gemm.activation_bits)
                slow.stores.append(done if last else to_bytes(results) if plan.spilled else 0)
    slow.compute[-1] -= 1
    # every fold but the first reads what it adds to; every result leaves once, and once more a spill
    deep = len(blocks(gemm.slots, fabric.rows))
    slow.sum_reads = gemm.outputs * gemm.tokens * gemm.sum_bits * (deep + (len(inner_blocks) - 1) * plan.spilled)
    return slow


def slow_standing(gemm: Gemm, fabric: Fabric, plan: Plan) -> Slow:
    slow = Slow()
    tokens_outer = plan.order == "tokens-outer"
    token_blocks = blocks(gemm.tokens, (plan.outer if tokens_outer else plan.inner) * fabric.rows)
    output_blocks = blocks(gemm.outputs, (plan.inner if tokens_outer else plan.outer) * fabric.cols)
    pairs = (
        [(t, o) for t in token_blocks for o in output_blocks]
        if tokens_outer
        else [(t, o) for o in output_blocks for t in token_blocks]
    )
    for tokens, outputs in pairs:
        i, j = (
            (token_blocks.index(tokens), output_blocks.index(outputs))
            if tokens_outer
            else (output_blocks.index(outputs), token_blocks.index(tokens))
        )
        folds = len(blocks(len(tokens), fabric.rows)) * len(blocks(len(outputs), fabric.cols))
        chunks = blocks(gemm.inputs, plan.chunk)
        for c, chunk in enumerate(chunks):
            weights = to_bytes(len(outputs) * len(chunk) * gemm.weight_bits)
            scales = scales_of(gemm, outputs, chunk)
            inputs = to_bytes(len(tokens) * len(chunk) * gemm.activation_bits)
            slow.weight_reads += weights * 8 * len(blocks(len(tokens), fabric.rows))
            slow.input_reads += inputs * 8 * len(blocks(len(outputs), fabric.cols))
            outer, inner = not plan.kept or j == 0, not plan.resident or i == 0
            loads_x, loads_w = (outer, inner) if tokens_outer else (inner, outer)
            slow.loads.append((weights * loads_w, 0, scales * loads_w, inputs * loads_x, 0))
            slow.compute.append(folds * (len(chunk) + (fabric.fill_cycles if c == 0 else 0)))
            slow.stores.append(
                to_bytes(len(tokens) * len(outputs) * gemm.activation_bits) if c == len(chunks) - 1 else 0
            )
    slow.compute[-1] -= 1
    slow.sum_reads = slow.sum_writes = gemm.outputs * gemm.tokens * gemm.sum_bits
    return slow
