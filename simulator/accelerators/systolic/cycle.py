"""Dense systolic arrays: weight, output or input stationary, one or several side by side; tpu-v4 and tpu-v5e.

A grid of rows x cols processing elements multiplies y = x W^T, with M tokens, K inputs and N outputs, fold by fold. A
fold fills the array with the part of one operand that stays (ws: weights, rows along the inputs, columns along the
outputs; is: inputs, rows along the inputs, columns along the tokens) while the other streams through, skewed by a cycle
a row; or (os) both stream and the sums stay (rows along the tokens, columns along the outputs). The cycles are those of
SCALE-Sim (Samajdar et al., ISPASS 2020; version 3: Raj et al., ISPASS 2025), which numbers them from 0, so that a layer
takes L - 1:

    ws  L = ceil(K / rows) ceil(N / cols) (2 rows + cols + M - 2)
    os  L = ceil(M / rows) ceil(N / cols) (K + rows + cols - 2)
    is  L = ceil(K / rows) ceil(M / cols) (2 rows + cols + N - 2)

The first `rows` cycles of a ws or is fold load what stays. array.count arrays run in lock step on neighbouring groups
of columns and share what streams along their rows: cols becomes cols * count in the ceil, and the fold is no longer for
it. With dataflow is columns are tokens, so few tokens leave arrays idle.

Pruning saves nothing here: zeros are multiplied, and rows or columns of W that are wholly zero are NOT skipped; to gain
from structured pruning, cut them out and simulate the smaller layer. Weights are stored dense, at their bits, with
their scales.

array.nm = "N:M" adds N:M along the inputs to dataflow ws, SCALE-Sim 3's layer-wise sparsity: a processing element holds
one of the N kept weights of M neighbouring inputs with its index, gets all M inputs, and picks one; K becomes N ceil(K
/ M), whether slots are filled or not (SCALE-Sim drops the slots that a shorter last group leaves empty in every row,
which can save it a fold). Weights are stored packed N:M. With os and is the weights move, so that every element would
have to pick anew in every cycle: not modelled, a UserError. A mask that keeps more than N of M somewhere runs dense and
is stored dense.

Memory adds stalls and nothing else: compute_cycles is the formula, whatever the buffers. Tiles, loop orders and partial
sums that spill to DRAM (counted in output_bytes) are those of stream.py, the choice between them that of
mapper.py. The formula lets every fold stream all tokens at once (is: all outputs), so ws spills where the sums
of cols * count outputs for all tokens exceed half of output_kib: above 4096 tokens in the presets systolic and tpu-v4,
8192 in tpu-v5e. Running the tokens in batches, at the price of filling the array again for each, would avoid it:
simulate one batch, and multiply.

tpu-v4 and tpu-v5e: matrix units, clock, memory sizes and bandwidth of Jouppi et al. (ISCA 2023) and of Google Cloud's
page on v5e, whose clock and VMEM are not on it (see the preset); 8 or 4 arrays of 128 x 128 give the published 275 and
197 TFLOPS of bf16 at most. How a chip's memory is divided among weights, inputs and outputs is ours. 5 nm has no energy
data: v5e is charged as 7 nm, which overstates its energy.

Deviations and approximations: filling and draining are never hidden behind the neighbouring fold, as SCALE-Sim has it;
a TPU keeps a second set of weights in the array and hides at least the `rows` cycles of loading, so small M looks worse
here than there (M = 128 on 128 x 128: 510 cycles a fold, 128 of them loading). Vector units, transposes and host are
left out; so are bank conflicts. Sparse activations save nothing: they only count fewer useful multiplications. In RTL
(docs/validation/rtl.md) the sums of os leave up the columns behind the next fold, `rows` cycles after a layer's last
multiplication, which no formula here counts.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import AfterValidator, Field

from simulator.accelerators.accelerator import Accelerator, Values
from simulator.accelerators.systolic.mapper import Found, best_plan
from simulator.accelerators.systolic.stream import Fabric, Gemm
from simulator.actions import Actions
from simulator.cycles import LayerCycles
from simulator.machine.parts import Machine, Side
from simulator.machine.port import port_of
from simulator.statistics import Statistics
from simulator.work import Work
from workloads.errors import UserError
from workloads.mask import PackedMask
from workloads.patterns import NofM, parse_pattern


def known_sparsity(text: str) -> str:
    if text != "dense":
        try:
            parse_pattern(text if text != "unstructured" else "")
        except UserError:
            raise ValueError("dense, or N:M such as 2:4 with 1 <= N < M <= 64") from None
    return text


@dataclass(frozen=True)
class SystolicArray:
    """`count` arrays of rows x cols; nm: "dense", or N:M of packed weights."""

    rows: Side
    cols: Side
    count: Annotated[int, Field(gt=0, le=1024)]
    dataflow: Literal["ws", "os", "is"]
    nm: Annotated[str, AfterValidator(known_sparsity)]


@dataclass(frozen=True)
class SystolicSpec(Machine):
    array: SystolicArray

    @property
    def macs(self) -> int:
        return self.array.rows * self.array.cols * self.array.count

    @property
    def pattern(self) -> NofM | None:
        return None if self.array.nm == "dense" else parse_pattern(self.array.nm)


class Systolic(Accelerator):
    name = "systolic"
    reuses_halo = True
    spec_type = SystolicSpec
    spec: SystolicSpec
    notes = (
        "Zeros are multiplied, and wholly zero rows or columns are not skipped: only array.nm gains from a mask, and "
        "only from one that is N:M.",
        "Folds neither overlap nor hide their weight loading (SCALE-Sim's count); a TPU hides it, so few tokens look "
        "worse here.",
        "Dataflow ws streams all tokens through every fold: partial sums that outgrow half of buffers.output_kib spill "
        "to DRAM.",
        "Sparse activations save nothing.",
    )

    @property
    def arrays(self) -> int:
        """Of one layer they run in lock step; of several, one or more on each."""
        return self.spec.array.count

    def share(self, arrays: int) -> Self:
        part = arrays / self.spec.array.count
        spec = self.spec
        shared = replace(
            spec,
            array=replace(spec.array, count=arrays),
            buffers=spec.buffers.share(part),
            dram=replace(spec.dram, bandwidth_gbps=spec.dram.bandwidth_gbps * part),
        )
        return type(self).of(shared, self.name, self._set)

    def geometry(self) -> list[str]:
        return [self.spec.array.nm]

    def gather(self, mask: PackedMask, values: Values) -> dict[str, np.ndarray]:
        """follows (1,): whether the mask is N:M; 0 for a dense array, which does not ask."""
        pattern = self.spec.pattern
        return {"follows": np.array([pattern is not None and mask.follows(pattern.n, pattern.m)], dtype=np.int64)}

    def dense(self, rows: int, cols: int) -> dict[str, np.ndarray]:
        return {"follows": np.zeros(1, dtype=np.int64)}

    def layer(self, work: Work, statistics: Statistics) -> LayerCycles:
        """One layer; of the mask it needs `work.nnz` and whether it is N:M.

        Raises UserError for array.nm with os or is and for overrides the dataflow does not have, Infeasible where no
        tile fits.
        """
        pattern, number = self.spec.pattern, self.spec.number
        if pattern and self.spec.array.dataflow != "ws":
            raise UserError(
                f"array.nm = {pattern}: with dataflow {self.spec.array.dataflow} weights move through the array; use "
                f"array.dataflow=ws or array.nm=dense"
            )
        packed = pattern is not None and bool(statistics["follows"][0])
        width = work.width(number.weight_bits)
        quantized = work.weight_bits is not None and work.weight_bits <= number.weight_bits
        gemm = Gemm(
            outputs=work.rows,
            inputs=work.cols,
            tokens=work.tokens,
            n=pattern.n if pattern and packed else 1,
            m=pattern.m if pattern and packed else 1,
            weight_bits=width,
            scale_bits=number.scale_bits + width if quantized else 0,
            group_size=work.group_size,
            activation_bits=number.activation_bits,
            sum_bits=number.accumulator_bits,
            distinct=work.distinct,
        )
        kind = str(pattern) if packed else f"dense: keeps more than {pattern.n} of {pattern.m}" if pattern else "dense"
        return assembled(self.spec, work, gemm, mapped(self.spec, gemm), kind)


@lru_cache(maxsize=64)
def mapped(spec: SystolicSpec, gemm: Gemm) -> Found:
    """The best plan; a pruned layer has the same as its dense baseline, so it is found once."""
    array = spec.array
    fill = (1 if array.dataflow == "os" else 2) * array.rows + array.cols - 2
    fabric = Fabric(array.rows, array.cols * array.count, fill)
    return best_plan(spec, port_of(spec.dram, spec.clock.mhz), gemm, fabric, array.dataflow)


def assembled(spec: SystolicSpec, work: Work, gemm: Gemm, found: Found, kind: str) -> LayerCycles:
    tiles, stream = found.tiles, found.stream
    compute_cycles = int(tiles.total(tiles.compute))
    weights, metadata, scales, inputs, sums, stored = (
        int(tiles.total(part))
        for part in (tiles.weights, tiles.metadata, tiles.scales, tiles.inputs, tiles.sums, tiles.stored)
    )
    useful = work.nnz * work.tokens * work.activation_density
    return LayerCycles(
        compute_cycles=compute_cycles,
        stall_cycles=found.cycles - compute_cycles,
        buffer_cycles=stream.total(stream.compute) - compute_cycles,
        transfer_cycles=stream.total(stream.load) + stream.total(stream.store),
        ideal_cycles=useful / spec.macs,
        weight_bytes=weights,
        metadata_bytes=metadata,
        scale_bytes=scales,
        activation_bytes=inputs,
        output_bytes=sums + stored,
        mapping=f"{kind}, {spec.array.dataflow}, {words(spec, gemm, found)}",
        actions=Actions(
            macs=useful,
            idle_macs=max(compute_cycles * spec.macs - useful, 0.0),
            read_bits=(
                float(tiles.total(tiles.weight_reads)),
                float(tiles.total(tiles.index_reads)),
                float(tiles.total(tiles.input_reads)),
                float(tiles.total(tiles.sum_reads)),
            ),
            write_bits=(8.0 * (weights + scales), 8.0 * metadata, 8.0 * inputs, float(tiles.total(tiles.sum_writes))),
            dram_bits=8.0 * (weights + metadata + scales + inputs + sums + stored),
        ),
        stream=stream,
    )


def words(spec: SystolicSpec, gemm: Gemm, found: Found) -> str:
    """The plan for a reader: tile of outputs x inputs x tokens, order, what stays on chip."""
    array, plan = spec.array, found.plan
    wide = array.cols * array.count
    first = int(gemm.cut(plan.chunk if array.dataflow == "os" else plan.inner * array.rows).inputs[0])
    if array.dataflow == "ws":
        rows, tokens = min(plan.outer * wide, gemm.outputs), plan.chunk
    elif array.dataflow == "is":
        rows, tokens = plan.chunk, min(plan.outer * wide, gemm.tokens)
    else:
        a, b = (plan.outer, plan.inner) if plan.order == "tokens-outer" else (plan.inner, plan.outer)
        rows, tokens = min(b * wide, gemm.outputs), min(a * array.rows, gemm.tokens)
    again = "inputs" if array.dataflow == "ws" or (array.dataflow == "os" and plan.order == "rows-outer") else "weights"
    text = f"tile {rows}x{first}x{tokens}, {plan.order}"
    text += f", all {again} stay" if plan.resident else ""
    return text + (", sums spilled" if plan.spilled else "")
