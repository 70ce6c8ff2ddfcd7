"""vegeta's row-wise N:4 and stc's 2:4: kept weights of every four inputs, each behind a mux of its own."""

import numpy as np

from validation.rtl.designs.design import Design
from validation.rtl.groups import Group
from validation.rtl.job import FIRST, LAST, Beats, Tile, WalkRun, packed
from validation.runs import FREE_MEMORY, ROOMY, run

WORD = 64


def slots(weights: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kept weights of every four inputs in their order and their places, (rows, 4 slots, fours); what is empty is 0."""
    rows, cols = weights.shape
    fours = kept.reshape(rows, cols // 4, 4)
    order = np.argsort(~fours, axis=2, kind="stable")
    values = np.take_along_axis(weights.reshape(fours.shape) * fours, order, axis=2)
    return values.transpose(0, 2, 1), order.transpose(0, 2, 1)


class Select(Design):
    name = "select"

    def __init__(self, model: str = "vegeta", lanes: int = 8, words: int = 1, rows: int = 24, tokens: int = 4) -> None:
        self.model, self.lanes, self.rows, self.cols, self.tokens = model, lanes, rows, WORD * words, tokens
        self.parameters = {"LANES": lanes, "WORDS": words, "ROWS": rows, "TOKENS": tokens}
        self.block = (rows, self.cols)
        self.adds_up = model == "vegeta"  # stc takes a mask as a whole
        self.most = (3 * rows, 3 * self.cols, tokens)
        if model == "vegeta":
            shape = (f"array.lanes={lanes}", f"array.blocks={16 * words}", f"array.group_rows={rows}")
        else:
            shape = (f"array.macs={lanes * 16 * words}", f"array.rows={rows}", f"array.depth={self.cols}")
        self.sets = (*shape, f"array.tokens={tokens}", FREE_MEMORY, *ROOMY)

    def __str__(self) -> str:
        return f"{super().__str__()}, {self.model}"

    def covers(self, kept: np.ndarray) -> np.ndarray:
        """Of every row of a tile."""
        fullest = kept.reshape(len(kept), -1, 4).sum(axis=2).max(axis=1)
        return np.array([1, 1, 2, 4, 4])[fullest]

    def forced(self, group: Group) -> int:
        """stc runs a mask as a whole at 2:4, or dense."""
        if self.model == "vegeta":
            return 0
        padded = np.pad(group.kept, ((0, 0), (0, -group.mask.cols % 4)))
        return 2 if self.covers(padded).max() <= 2 else 4

    def tops(self, group: Group) -> range:
        return range(0, group.mask.rows, self.rows)

    def walk(self, group: Group) -> list[Tile]:
        forced = self.forced(group)
        return [
            self.tile(group, top, left, forced)
            for top in self.tops(group)
            for left in range(0, group.mask.cols, self.cols)
        ]

    def cut(self, group: Group, top: int, left: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Words as stored, kept and weights of a tile, and the order that its rows are packed in."""
        rows = slice(top, top + self.rows)
        words = group.mask.words[rows, left // WORD : (left + self.cols) // WORD]
        part = group.kept[rows, left : left + self.cols]
        fill = ((0, 0 if self.model == "vegeta" else self.rows - len(part)), (0, self.cols - part.shape[1]))
        kept, weights = np.pad(part, fill), np.pad(group.weights[rows, left : left + self.cols], fill)
        words = np.pad(words, (fill[0], (0, self.cols // WORD - words.shape[1])))
        order = np.argsort(-self.covers(kept), kind="stable") if self.model == "vegeta" else np.arange(len(kept))
        return words, kept, weights, order

    def tile(self, group: Group, top: int, left: int, forced: int) -> Tile:
        words, kept, weights, order = self.cut(group, top, left)
        values, places = slots(weights[order], kept[order])
        inputs = np.zeros((self.tokens, self.cols), np.int8)
        part = group.inputs[:, left : left + self.cols]
        inputs[: len(part), : part.shape[1]] = part
        spaces = words[order].ravel(), packed(values), packed(places), packed(inputs)
        beats = tuple(Beats(number, words) for number, words in enumerate(spaces))
        return Tile(FIRST | LAST | forced << 16, beats, self.tokens * self.rows)  # rows are packed anew in every tile

    def sums(self, group: Group, run: WalkRun) -> np.ndarray:
        found = np.zeros((group.tokens, group.mask.rows + self.rows), np.int64)
        tiles = iter(run.tiles)
        for top in self.tops(group):
            for left in range(0, group.mask.cols, self.cols):
                order = self.cut(group, top, left)[3]
                sums = next(tiles).sums.reshape(self.tokens, self.rows)[: group.tokens]
                found[:, top + order] += sums[:, : len(order)]
        return found[:, : group.mask.rows]

    def cycles(self, run: WalkRun) -> list[int]:
        return [sum(tile.busy for tile in run.tiles)]

    def model_cycles(self, group: Group) -> list[int]:
        return [run(self.model, self.sets, group.mask, group.tokens).sparse.compute_cycles]

    def macs(self, group: Group) -> int:
        """Every multiplier of every lane that a row takes, slots that hold nothing too, with all tokens of a step."""
        forced, lanes = self.forced(group), 0
        for top in self.tops(group):
            for left in range(0, group.mask.cols, self.cols):
                kept = self.cut(group, top, left)[1]
                lanes += forced * len(kept) if forced else int(self.covers(kept).sum())
        return lanes * self.cols // 4 * self.tokens
