"""vitcod's lanes: a tile's rows dealt out to lanes, HEIGHT kept weights of a row a cycle, the slowest ends a token."""

import re
from typing import ClassVar

import numpy as np

from validation.rtl.designs.design import Design
from validation.rtl.groups import Group
from validation.rtl.job import FIRST, LAST, Beats, Tile, WalkRun, packed
from validation.runs import FREE_MEMORY, ROOMY, run

WORD = 64


class Lanes(Design):
    """Tiles of rows x 64 words; thresholds: of the model, which decides what the denser engine gets."""

    name = "lanes"
    model = "vitcod"
    rolled = True
    constants: ClassVar = {"EMPTY_TILE": "a tile without any work has the array for one cycle; the model counts none"}

    def __init__(
        self, lanes: int = 8, height: int = 4, rows: int = 32, words: int = 2, tokens: int = 4, *,
        thresholds: tuple[float, ...] = (1.0,), word_decode: bool = False,
    ) -> None:  # fmt: skip
        self.lanes, self.height, self.rows, self.cols = lanes, height, rows, WORD * words
        self.parameters = {
            "LANES": lanes, "HEIGHT": height, "ROWS": rows, "WORDS": words, "TOKENS": tokens,
            "WORD_DECODE": int(word_decode),
        }  # fmt: skip
        self.block = (rows, self.cols)
        self.most = (2 * rows, 2 * self.cols, tokens)
        self.sets = (
            f"array.width={lanes}", f"array.height={height}", f"mapping.tile_rows={rows}",
            f"mapping.tile_cols={self.cols}",
            f"engines.dense_thresholds={list(thresholds)}", FREE_MEMORY, *ROOMY,
        )  # fmt: skip
        self.thresholds = thresholds
        self.adds_up = thresholds == (1.0,)  # else columns are told apart by their share in the whole layer

    def __str__(self) -> str:
        return super().__str__() + (", both engines" if self.thresholds != (1.0,) else "")

    @property
    def pipeline(self) -> int:
        """Edges from a tile's last operands to its last sum: operands, products, the tree's levels, the sum."""
        return 2 + (self.height - 1).bit_length()

    def walk(self, group: Group) -> list[Tile]:
        dense, on_lanes = self.split(group)
        return [
            self.tile(group, top, left, dense, on_lanes)
            for top in range(0, group.mask.rows, self.rows)
            for left in range(0, group.mask.cols, self.cols)
        ]

    def split(self, group: Group) -> tuple[np.ndarray, int]:
        """Columns of the denser engine, and its lanes, as the model's mapping has them."""
        none = np.zeros(group.mask.cols, bool)
        if self.thresholds == (1.0,):
            return none, 0
        found = re.search(
            r"(\d+) dense columns on (\d+) lanes", run(self.model, self.sets, group.mask, group.tokens).sparse.mapping
        )
        assert found
        share = group.kept.mean(axis=0)
        for threshold in self.thresholds:
            if (share > threshold).sum() == int(found[1]):
                return share > threshold, int(found[2])
        return ~none, int(found[2])  # full masks: all columns

    def tile(self, group: Group, top: int, left: int, dense: np.ndarray, on_lanes: int) -> Tile:
        rows, cols = slice(top, top + self.rows), slice(left, left + self.cols)
        kept, weights = group.kept[rows, cols], group.weights[rows, cols]
        wide = group.mask.words[rows, left // WORD : (left + self.cols) // WORD]  # as stored
        words = np.pad(wide, ((0, 0), (0, self.cols // WORD - wide.shape[1])))
        to_dense = dense[cols]
        inputs = np.zeros((group.tokens, self.cols), np.int8)
        inputs[:, : kept.shape[1]] = group.inputs[:, cols]
        first, last = left == 0, left + self.cols >= group.mask.cols
        descriptor = FIRST * first | LAST * last | len(kept) << 8 | group.tokens << 16 | on_lanes << 24
        beats = [Beats(0, words.ravel()), Beats(1, packed(weights[kept & ~to_dense])), Beats(3, packed(inputs))]
        if self.thresholds != (1.0,):
            flags = np.zeros(self.cols, bool)
            flags[: len(to_dense)] = to_dense
            beats = [
                Beats(4, np.packbits(flags, bitorder="little").view(np.uint64)),
                *beats, Beats(2, packed(weights[:, to_dense])),
            ]  # fmt: skip
        sums = group.tokens * self.rows if last else 0
        return Tile(descriptor | int(to_dense.sum()) << 32, tuple(beats), sums)

    def sums(self, group: Group, run: WalkRun) -> np.ndarray:
        ends = [tile.sums.reshape(group.tokens, self.rows) for tile in run.tiles if len(tile.sums)]
        return np.concatenate(ends, axis=1)[:, : group.mask.rows]

    def cycles(self, run: WalkRun) -> list[int]:
        return [tile.busy for tile in run.tiles]

    def model_cycles(self, group: Group) -> list[int]:
        stream = run(self.model, self.sets, group.mask, group.tokens).sparse.stream
        assert stream is not None
        return [int(cycles) for cycles in stream.compute]

    def left_over(self, group: Group, run: WalkRun) -> list[dict[str, int]]:
        return [{} if tile.ins else {"EMPTY_TILE": 1} for tile in run.tiles]

    def macs(self, group: Group) -> int:
        dense, _ = self.split(group)
        return int((group.kept[:, ~dense].sum() + group.mask.rows * dense.sum()) * group.tokens)
