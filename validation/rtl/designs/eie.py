"""eie's elements: columns as runs and weights, inputs broadcast into queues."""

from typing import ClassVar

import numpy as np

from validation.rtl.designs.design import Design
from validation.rtl.groups import Group
from validation.rtl.job import FIRST, LAST, Beats, Tile, WalkRun, packed
from validation.runs import FREE_MEMORY, ROOMY, run

MOST_ZEROS = 15  # that an entry counts


class Eie(Design):
    """A group is one tile: everything lies in the elements before it starts."""

    name = "eie"
    model = "eie"
    events = "from the first edge that sends an input to the edge of the last entry, both counted"
    constants: ClassVar = {"BROADCAST": "a token's first input is in the queues a cycle after it is sent"}

    def __init__(self, pes: int = 4, depth: int = 2, cols: int = 128, rows: int = 32, tokens: int = 3) -> None:
        self.pes, self.depth, self.cols, self.rows = pes, depth, cols, rows
        self.entries = cols * rows
        self.parameters = {
            "PES": pes, "DEPTH": depth, "COLS": cols, "ROWS": rows, "ENTRIES": self.entries, "TOKENS": tokens,
        }  # fmt: skip
        self.block = (pes * rows, cols)
        self.most = (pes * rows, cols, tokens)
        self.sets = (f"array.pes={pes}", f"array.fifo_depth={depth}", FREE_MEMORY, *ROOMY)

    def walk(self, group: Group) -> list[Tile]:
        starts = np.zeros((self.pes, self.cols + 1), np.uint64)
        entries = np.zeros((self.pes, self.entries), np.uint64)
        for pe in range(self.pes):
            listed: list[int] = []
            for c in range(group.mask.cols):
                listed += self.column(group.weights[pe :: self.pes, c])
                starts[pe, c + 1] = len(listed)
            entries[pe, : len(listed)] = listed
        there = np.zeros((group.tokens, self.cols), bool)
        values = np.zeros(there.shape, np.int8)
        there[:, : group.mask.cols], values[:, : group.mask.cols] = True, group.inputs
        beats = [Beats(0, starts.ravel())]
        beats += [
            Beats(1, entries[pe, : int(starts[pe].max())], pe * self.entries)
            for pe in range(self.pes)
            if starts[pe].any()
        ]
        beats += [Beats(2, np.packbits(there, bitorder="little").view(np.uint64)), Beats(3, packed(values))]
        descriptor = FIRST | LAST | group.tokens << 8 | group.mask.cols << 16
        return [Tile(descriptor, tuple(beats), group.tokens * self.rows * self.pes)]

    @staticmethod
    def column(weights: np.ndarray) -> list[int]:
        """Entries of one element's part of a column: zeros in front of the weight, sixteen of them an entry of their
        own."""
        found, zeros = [], 0
        for weight in weights:
            if weight == 0:
                zeros += 1
                continue
            found += [MOST_ZEROS << 8] * (zeros // (MOST_ZEROS + 1))
            found.append((zeros % (MOST_ZEROS + 1)) << 8 | int(weight) & 0xFF)
            zeros = 0
        return found

    def sums(self, group: Group, run: WalkRun) -> np.ndarray:
        return run.tiles[0].sums.reshape(group.tokens, -1)[:, : group.mask.rows]

    def cycles(self, run: WalkRun) -> list[int]:
        return [tile.busy for tile in run.tiles]

    def model_cycles(self, group: Group) -> list[int]:
        return [run(self.model, self.sets, group.mask, group.tokens).sparse.compute_cycles]

    def left_over(self, group: Group, run: WalkRun) -> list[dict[str, int]]:
        return [{"BROADCAST": group.tokens}]
