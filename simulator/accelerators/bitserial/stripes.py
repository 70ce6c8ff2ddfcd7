"""Bit-serial array, its time proportional to the bits of a weight: int8 in half, int4 in a quarter of 16 bits' cycles.

Source: Judd et al., "Stripes: Bit-Serial Deep Neural Network Computing" (MICRO 2016): a 16-bit bit-parallel accelerator
of 16 tiles, each 16 filters x 16 inputs a cycle (4096 MACs), remade with serial units, 16 times as many, so that p-bit
operands take p / 16 of the cycles. A layer has one precision, here the bundle's weight bits; nothing else of the
weights, and not their zeros, changes its cycles or its bytes. A bundle without weight bits keeps floats and runs at the
machine's number.weight_bits.

At a step `group` inputs of `outputs` outputs meet `tokens` tokens, for as many cycles as a weight has bits. With one
token the same lanes take one token and `single_outputs` outputs; the better arrangement is taken, by the layer.

The baseline is the same machine on the unpruned, unquantized layer at number.weight_bits (16): its cycles are those of
the bit-parallel design. So the speedup is 16 / bits, times what is saved on DRAM; pruning alone brings 1.00.

Deviations and approximations: Stripes serialises activations, whose precision it takes from profiling; here weights are
the serial operand, as they are what a bundle quantizes, and activations stay at number.activation_bits. The paper's
gains for fully connected layers with one token are zero, as it has one window for its 16; the second arrangement needs
weights at the rate that the bit-parallel design reads them, and is ours. Pruned weights are stored and computed. Sparse
activations bring nothing. MAC energy is that of a multiplication at the weights' bits; idle MAC slots are counted in
16-bit equivalents.
"""

from dataclasses import dataclass, replace

import numpy as np

from simulator.accelerators.accelerator import Accelerator, Values
from simulator.accelerators.bitserial.array import BitSerialArray, arranged_layer, arrangements
from simulator.cycles import LayerCycles, ceil_div
from simulator.machine.parts import Machine
from simulator.statistics import Statistics
from simulator.tiling.granules import dense_storage
from simulator.work import Work
from workloads.mask import PackedMask


@dataclass(frozen=True)
class StripesSpec(Machine):
    array: BitSerialArray

    @property
    def macs(self) -> int:
        """Of the machine's full precision: lanes / weight bits."""
        return max(1, self.array.lanes // self.number.weight_bits)


class Stripes(Accelerator):
    name = "stripes"
    reuses_halo = True
    spec_type = StripesSpec
    spec: StripesSpec
    notes = (
        "Compared with the unpruned, unquantized layer at the machine's 16 bits: what fewer bits bring is the speedup, "
        "zeros bring nothing.",
        "Weights are the serial operand, at the bundle's weight bits; the publication serialises activations at "
        "profiled precisions.",
        "One token is given to 16 times as many outputs, an arrangement of ours; the publication gains nothing on "
        "fully connected layers.",
        "Ideal cycles are those of kept weights at their bits; MAC slots are counted in 16-bit equivalents, so "
        "utilisation can exceed 1.",
    )

    def geometry(self) -> list[int]:
        array = self.spec.array
        return [array.group, array.outputs, array.single_outputs, array.inputs]

    def gather(self, mask: PackedMask, values: Values) -> dict[str, np.ndarray]:
        """Neither the mask nor the values count."""
        return {"unpruned": np.zeros(1, dtype=np.int64)}

    def dense(self, rows: int, cols: int) -> dict[str, np.ndarray]:
        return {"unpruned": np.ones(1, dtype=np.int64)}

    def layer(self, work: Work, statistics: Statistics) -> LayerCycles:
        array, value_bits = self.spec.array, work.width(self.spec.number.weight_bits)
        if statistics["unpruned"][0]:
            work = replace(work, weight_bits=None, group_size=None)
        bits = work.width(self.spec.number.weight_bits)

        def build(outputs: int) -> dict[str, np.ndarray]:
            arrays = dense_storage(work.rows, work.cols, outputs, array.inputs)
            steps = bits * -(-arrays["cols"] // array.group)
            return arrays | {"step_cycles": np.repeat(steps[None, :], ceil_div(work.rows, outputs), axis=0)}

        ideal = work.nnz * bits * work.tokens / array.lanes
        choices = arrangements(array, statistics, bits, build)
        return arranged_layer(self.spec, choices, work, ideal, f"{bits}-bit weights", value_bits)
