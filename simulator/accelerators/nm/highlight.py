"""Hierarchical structured sparsity: N:M inside blocks times N:M of blocks, at the rate of both ranks' product.

Source: Wu et al., "HighLight: Efficient and Flexible DNN Acceleration with Hierarchical Structured Sparsity" (MICRO
2023). A row is cut into blocks of h inputs, and blocks into runs of H. A mask holds the pair inner_n:h x outer_n:H if
no block keeps more than inner_n weights and no run more than outer_n blocks with any. The hardware supports all pairs
with h up to inner_most and H up to outer_most, by default 4:{4..8} in blocks and 2:{2..4} of blocks: densities from 1
to 25 %. A step multiplies the inner_n x outer_n slots of one run of `rows` outputs with one token, filled or not, so
every output has the same work and nothing waits for anything: speedup = h x H / (inner_n x outer_n).

A layer runs at one pair, a setting of the multiplexers of both ranks: of the supported pairs that hold the whole mask,
the one of fewest slots, of equal ones that of least metadata. One block too full anywhere moves the layer to a denser
pair; a mask that only 4:4 x 2:2 holds runs dense, stored dense, and `mapping` says so. Unstructured masks nearly always
do. A 2:4 mask holds 4:8 x 2:2.

Storage, to the bit: the slots of every run, and the offset of each: ceil(log2 h) bits of a value in its block,
ceil(log2 H) of a block in its run, none for a rank that keeps all. A granule is `runs` runs of `rows` outputs; runs
that the last input cuts short have all their slots.

Deviations and approximations: which of the two ranges belongs to which rank could not be checked against the paper's
text; array.* can swap them (inner_n=2, inner_most=4, outer_n=4, outer_most=8). How PEs share outputs, inputs and tokens
is ours. Sparse activations are gated in the paper, which saves energy and no cycles; here they bring nothing.
Compression and alignment of inputs are left out, the input buffer delivers what a step asks for. The paper's 6.4 times
better energy-delay product is a geometric mean over its own workloads and not one of our numbers.
"""

from dataclasses import dataclass

import numpy as np

from simulator.accelerators.accelerator import Values
from simulator.accelerators.granular import GranularAccelerator
from simulator.accelerators.nm.patterns import holds_ranks
from simulator.formats import block_sides, index_bits
from simulator.machine.parts import Machine, Side
from simulator.statistics import Statistics
from simulator.tiling.granules import Granules, dense_storage
from workloads.errors import UserError
from workloads.mask import PackedMask

LONGEST = 64  # inputs of a block


@dataclass(frozen=True)
class HighlightArray:
    """inner_n of inner_n..inner_most inputs in a block, outer_n of outer_n..outer_most blocks in a run."""

    rows: Side
    runs: Side
    inner_n: Side
    inner_most: Side
    outer_n: Side
    outer_most: Side

    @property
    def slots(self) -> int:
        """Of a run."""
        return self.inner_n * self.outer_n


@dataclass(frozen=True)
class HighlightSpec(Machine):
    array: HighlightArray

    @property
    def macs(self) -> int:
        return self.array.rows * self.array.slots


class Highlight(GranularAccelerator):
    name = "highlight"
    spec_type = HighlightSpec
    spec: HighlightSpec
    notes = (
        "A layer runs at one pair of ranks, the sparsest supported one that holds its whole mask; masks that hold none "
        "run dense.",
        "Ranges 4:{4..8} in blocks and 2:{2..4} of blocks; which belongs to which rank is not certain, array.* can "
        "swap them.",
        "Sparse activations are gated in the published design; here they save neither cycles nor energy.",
        "How the array's PEs share outputs, inputs and tokens is ours; the input buffer delivers what a step asks for.",
    )

    def geometry(self) -> list[int]:
        array = self.spec.array
        return [array.rows, array.runs, array.inner_n, array.inner_most, array.outer_n, array.outer_most]

    def gather(self, mask: PackedMask, values: Values) -> dict[str, np.ndarray]:
        array = self.spec.array
        pairs = supported_pairs(array)
        for inner_of, outer_of in pairs[:-1]:
            if holds_ranks(mask.words, mask.cols, array.inner_n, inner_of, array.outer_n, outer_of):
                break
        else:
            return self.dense(mask.rows, mask.cols)
        run = inner_of * outer_of
        rows, cols = block_sides(mask.rows, array.rows), block_sides(mask.cols, array.runs * run)
        runs = rows[:, None] * -(-cols // run)
        return {
            "rows": rows,
            "cols": cols,
            "values": runs * array.slots,
            "metadata_bits": runs * slot_bits(array, inner_of, outer_of),
            "pair": np.array([inner_of, outer_of], dtype=np.int64),
        }

    def dense(self, rows: int, cols: int) -> dict[str, np.ndarray]:
        array = self.spec.array
        arrays = dense_storage(rows, cols, array.rows, array.runs * array.slots)
        return arrays | {"pair": np.array([array.inner_n, array.outer_n], dtype=np.int64)}

    def note(self, statistics: Statistics) -> str:
        array = self.spec.array
        inner_of, outer_of = (int(of) for of in statistics["pair"])
        name = f"{array.inner_n}:{inner_of} in blocks x {array.outer_n}:{outer_of} of blocks"
        is_dense = (inner_of, outer_of) == (array.inner_n, array.outer_n)
        return "dense: no sparser pair of ranks holds the mask" if is_dense else name

    def granules(self, statistics: Statistics) -> Granules:
        """A run is a step's cycle."""
        rows, cols = statistics["rows"], statistics["cols"]
        runs = -(-cols // int(statistics["pair"].prod()))
        return Granules(
            rows=rows,
            cols=cols,
            values=statistics["values"],
            metadata_bits=statistics["metadata_bits"],
            step_cycles=np.repeat(runs[None, :], len(rows), axis=0),
            visit_cycles=np.zeros((len(rows), len(cols)), dtype=np.int64),
        )


def slot_bits(array: HighlightArray, inner_of: int, outer_of: int) -> int:
    """Metadata of one run of one output."""
    values = array.slots * index_bits(inner_of) if inner_of > array.inner_n else 0
    return values + (array.outer_n * index_bits(outer_of) if outer_of > array.outer_n else 0)


def supported_pairs(array: HighlightArray) -> list[tuple[int, int]]:
    """(inputs of a block, blocks of a run), sparsest first, then least metadata; the last is the dense one. Raises
    UserError for ranges that no hardware has."""
    for rank, n, most in (("inner", array.inner_n, array.inner_most), ("outer", array.outer_n, array.outer_most)):
        if not n <= most <= LONGEST:
            raise UserError(
                f"array.{rank}_most = {most} must be {n} (array.{rank}_n) to {LONGEST}, the longest block that is kept "
                f"in a word"
            )
    pairs = [
        (inner_of, outer_of)
        for inner_of in range(array.inner_n, array.inner_most + 1)
        for outer_of in range(array.outer_n, array.outer_most + 1)
    ]
    return sorted(pairs, key=lambda pair: (-pair[0] * pair[1], slot_bits(array, *pair), pair))
