"""Bit-column-serial array: a group of weights takes one cycle for every bit position that any of them uses.

Source: Shi et al., "BitWave: Exploiting Column-Based Bit-Level Sparsity for Deep Learning Acceleration" (HPCA 2024).
Weights are integers in sign-magnitude form. `group` weights along the inputs of an output are one column group; bit b
of all their magnitudes is a bit column. A column of zeros is neither stored nor computed; an index tells which columns
are there. The signs are a column too: it is stored where any weight is negative, and costs no cycle, as signs act
beside every magnitude column. Pruned weights are 0: they empty columns only where the other weights of the group leave
them empty as well.

The 512 engines multiply eight weight bits with eight inputs a cycle: 4096 lanes of 1 x 8 bits, as many as 512
multipliers of 8 x 8 bits deliver in eight cycles. At a step the groups of `outputs` outputs run in lock step: the step
takes as many cycles as the group with the most columns. For few tokens `single_outputs` outputs meet one token, which
uses a quarter of the lanes: as many weight bits a cycle (1,024) as the published memory delivers. The better
arrangement is taken, by the layer.

Storage, to the bit: `group` bits of every nonzero magnitude column and of the sign column, and an index of one bit a
column (8 a group, more where a magnitude needs more than 7 bits). Scales as everywhere; a zero point is not stored, as
it is inside the integers.

The baseline is the same machine on the unpruned, unquantized layer: all of number.weight_bits - 1 magnitude columns,
stored whole, no index, no scales. So the speedup holds what quantization to fewer bits brings too, unlike that of
designs that only skip zeros; set number.weight_bits to the layer's bits to take it out.

Deviations and approximations: the paper's bit flips, which change weights to empty more columns, are not applied: masks
and codes are what the bundle holds. Code minus zero point can need one magnitude bit more than the chip's 7 (-128, or a
grid with a zero point off the middle); it is charged as one more column, in cycles, storage and index, where the chip
would refuse it. Two of the paper's seven arrangements are offered. A step takes at least one cycle, so that its index
is read. Sparse activations bring nothing. MAC energy is that of whole multiplications at the layer's bits, so skipped
columns save cycles and bytes, not MAC energy; MAC slots are counted in 8-bit equivalents.
"""

from dataclasses import dataclass, replace

import numpy as np

from simulator.accelerators.accelerator import Accelerator, Values
from simulator.accelerators.bitserial.array import BitSerialArray, arranged_layer, arrangements
from simulator.accelerators.bitserial.columns import bit_columns, lockstep_sums
from simulator.cycles import Infeasible, LayerCycles, ceil_div
from simulator.formats import block_sides
from simulator.machine.parts import Machine
from simulator.statistics import Statistics
from simulator.tiling.granules import dense_storage, tile_sums
from simulator.work import Work
from workloads.codes import coded
from workloads.mask import PackedMask
from workloads.refusals import Refusal


@dataclass(frozen=True)
class BitWaveSpec(Machine):
    array: BitSerialArray

    @property
    def macs(self) -> int:
        """8-bit equivalents: lanes / weight bits."""
        return max(1, self.array.lanes // self.number.weight_bits)


class BitWave(Accelerator):
    name = "bitwave"
    reuses_halo = True
    spec_type = BitWaveSpec
    spec: BitWaveSpec
    reads_values = True
    notes = (
        "Compared with the unpruned, unquantized layer on the same machine, all magnitude columns computed: what fewer "
        "bits bring is in the speedup.",
        "Weights are code - zero point of the bundle; the published bit flips, which empty more columns by changing "
        "weights, are not applied.",
        "A magnitude of more than 7 bits (-128, or a zero point off the middle) is charged one more bit column, which "
        "the chip does not have.",
        "Ideal cycles are those of the nonzero bit columns without lock step; MACs of idle lanes are counted as 8-bit "
        "equivalents, so utilisation can exceed 1.",
    )

    def geometry(self) -> list[int]:
        array = self.spec.array
        return [array.group, array.outputs, array.single_outputs, array.inputs, self.spec.number.weight_bits]

    def gather(self, mask: PackedMask, values: Values) -> dict[str, np.ndarray]:
        """Of granules a row high: bits of columns. Of both arrangements' granules: cycles of a step. Of the layer:
        cells (weights x nonzero columns of their group) and the bits of its largest magnitude. Raises Infeasible
        without quantized weights."""
        array, tensors = self.spec.array, values()
        if "codes" not in tensors:
            raise Infeasible(
                Refusal("the bits of quantized weights", way_out="quantize while pruning, such as to 8 bits")
            )
        arguments = (*coded(tensors, mask).arguments, array.group)
        columns, signs, every, cells = bit_columns(*arguments)
        stored = (columns + signs).astype(np.int64) * array.group
        return {
            "column_bits": np.add.reduceat(stored, np.arange(0, stored.shape[1], array.runs), axis=1).astype(np.int32),
            "cols": block_sides(mask.cols, array.inputs),
            "many": lockstep_sums(columns, array.outputs, array.runs),
            "single": lockstep_sums(columns, array.single_outputs, array.runs),
            "cells": np.array([cells], dtype=np.int64),
            "magnitude_bits": np.array([int(every).bit_length()], dtype=np.int64),
        }

    def dense(self, rows: int, cols: int) -> dict[str, np.ndarray]:
        """The shape is all that the baseline needs."""
        return {"unpruned": np.array([rows, cols], dtype=np.int64)}

    def layer(self, work: Work, statistics: Statistics) -> LayerCycles:
        if "unpruned" in statistics.arrays:
            return self._unpruned_layer(work, statistics)
        array = self.spec.array
        magnitude_bits = int(statistics["magnitude_bits"][0])
        index_bits = max(self.spec.number.weight_bits, magnitude_bits + 1)

        def build(outputs: int) -> dict[str, np.ndarray]:
            rows = block_sides(work.rows, outputs)
            groups = -(-statistics["cols"] // array.group)
            return {
                "rows": rows,
                "cols": statistics["cols"],
                "values": tile_sums(statistics["column_bits"], outputs, 1),
                "metadata_bits": rows[:, None] * groups * index_bits,
                "step_cycles": statistics["many" if outputs == array.outputs else "single"],
            }

        # Stored bits are known, so a value is one bit wide, and so would the mapper take a zero point to be: scale and
        # zero point together are what a scale alone takes.
        number = replace(self.spec.number, scale_bits=self.spec.number.scale_bits - 1)
        ideal = int(statistics["cells"][0]) * work.tokens / array.lanes
        choices = arrangements(array, statistics, "columns", build)
        note = f"bit columns of {magnitude_bits}-bit magnitudes"
        stored, value_bits = replace(work, weight_bits=1), work.width(self.spec.number.weight_bits)
        return arranged_layer(replace(self.spec, number=number), choices, stored, ideal, note, value_bits)

    def _unpruned_layer(self, work: Work, statistics: Statistics) -> LayerCycles:
        """All magnitude columns at every step."""
        array = self.spec.array
        columns = max(1, self.spec.number.weight_bits - 1)

        def build(outputs: int) -> dict[str, np.ndarray]:
            arrays = dense_storage(work.rows, work.cols, outputs, array.inputs)
            steps = columns * -(-arrays["cols"] // array.group)
            return arrays | {"step_cycles": np.repeat(steps[None, :], ceil_div(work.rows, outputs), axis=0)}

        ideal = work.nnz * columns * work.tokens / array.lanes
        choices = arrangements(array, statistics, "columns", build)
        plain, value_bits = replace(work, weight_bits=None, group_size=None), work.width(self.spec.number.weight_bits)
        note = f"unpruned and unquantized: all {columns} magnitude columns"
        return arranged_layer(self.spec, choices, plain, ideal, note, value_bits)
