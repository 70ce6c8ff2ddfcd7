"""sigma: the bitmap goes in, folds, ports and tree are the array's own."""

from typing import ClassVar

import numpy as np

from validation.rtl.designs.design import Design
from validation.rtl.groups import Group
from validation.rtl.job import FIRST, LAST, Beats, Tile, WalkRun, packed
from validation.runs import FREE_MEMORY, ROOMY, run

COLS = 64
UNBOUND = tuple(f"buffers.{name}_bytes_per_cycle=0" for name in ("weight", "index", "activation", "output"))


class Sigma(Design):
    """Two figures a group: cycles, and those of them in which a port sends."""

    name = "sigma"
    model = "sigma"
    events = "from the first edge of the first fold, which configures, to the last sum of the last, both counted"
    constants: ClassVar = {"EMPTY_TILE": "a group without weights has the array for one cycle; the model counts none"}

    def __init__(
        self, multipliers: int = 16, feeds: int = 4, rows: int = 16, tokens: int = 3, queue: int = 0,
        continuous: bool = False,
    ) -> None:  # fmt: skip
        self.rows = rows
        self.parameters = {
            "MULTIPLIERS": multipliers, "FEEDS": feeds, "ROWS": rows, "TOKENS": tokens, "QUEUE": queue or tokens,
            "CONTINUOUS": int(continuous),
        }  # fmt: skip
        self.block = (rows, COLS)
        self.most = (rows, COLS, tokens)
        packing = 'array.packing="continuous"' if continuous else 'array.packing="rows"'
        self.sets = (
            f"array.num_ms={multipliers}", f"array.dn_bw={feeds}", packing, FREE_MEMORY, *ROOMY, *UNBOUND,
        )  # fmt: skip

    def walk(self, group: Group) -> list[Tile]:
        inputs = np.zeros((group.tokens, COLS), np.int8)
        inputs[:, : group.mask.cols] = group.inputs
        kept = packed(group.weights[group.kept])
        beats = (Beats(0, group.mask.words.ravel()), Beats(1, kept), Beats(2, packed(inputs)))
        return [Tile(FIRST | LAST | group.tokens << 8, beats, group.tokens * self.rows)]

    def sums(self, group: Group, run: WalkRun) -> np.ndarray:
        return run.tiles[0].sums.reshape(group.tokens, self.rows)[:, : group.mask.rows]

    def cycles(self, run: WalkRun) -> list[int]:
        return [run.tiles[0].busy, run.tiles[0].ins]

    def model_cycles(self, group: Group) -> list[int]:
        found = run(self.model, self.sets, group.mask, group.tokens).sparse
        return [found.compute_cycles, found.extra["distribution_cycles"]]

    def left_over(self, group: Group, run: WalkRun) -> list[dict[str, int]]:
        return [{} if group.mask.nnz else {"EMPTY_TILE": 1}, {}]
