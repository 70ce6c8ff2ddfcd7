"""bitwave and stripes: weights a bit position at a time, skipping empty positions or not."""

import numpy as np

from validation.rtl.designs.design import Design
from validation.rtl.groups import Group
from validation.rtl.job import FIRST, LAST, Beats, Tile, WalkRun, packed
from validation.runs import FREE_MEMORY, ROOMY, run

MAGNITUDES = 7


class Columns(Design):
    """multiplications are counted as bit columns of a group: a lane at work for a cycle. model: bitwave or stripes."""

    name = "columns"
    events = "from the first edge at which a group is in the lanes to the last, both counted"

    def __init__(self, model: str = "bitwave", lanes: int = 4, group: int = 8, cols: int = 64, tokens: int = 3) -> None:
        self.model, self.lanes, self.group, self.cols, self.tokens = model, lanes, group, cols, tokens
        self.skips = model == "bitwave"
        self.parameters = {
            "LANES": lanes, "GROUP": group, "COLS": cols, "TOKENS": tokens, "SKIP": int(self.skips), "BITS": 8,
        }  # fmt: skip
        self.block = (3 * lanes, cols)
        self.most = (4 * lanes, 3 * cols, 2 * tokens)
        self.sets = (
            f"array.group={group}", f"array.outputs={lanes}", f"array.tokens={tokens}", f"array.single_outputs={lanes}",
            f"array.depth={cols}", FREE_MEMORY, *ROOMY,
        )  # fmt: skip

    def __str__(self) -> str:
        return f"{super().__str__()}, {self.model}"

    def pieces(self, group: Group) -> list[tuple[int, int, int]]:
        """First output, token and input of every tile."""
        return [
            (top, token, left)
            for top in range(0, group.mask.rows, self.lanes)
            for token in range(0, group.tokens, self.tokens)
            for left in range(0, group.mask.cols, self.cols)
        ]

    def walk(self, group: Group) -> list[Tile]:
        return [self.tile(group, *piece) for piece in self.pieces(group)]

    def tile(self, group: Group, top: int, token: int, left: int) -> Tile:
        part = group.weights[top : top + self.lanes, left : left + self.cols]
        weights = np.zeros((self.lanes, self.cols), np.int8)
        weights[: len(part), : part.shape[1]] = part
        if self.skips:  # sign and magnitude
            weights = (np.abs(weights).astype(np.uint8) | (weights < 0).astype(np.uint8) << MAGNITUDES).view(np.int8)
        seen = group.inputs[token : token + self.tokens, left : left + self.cols]
        inputs = np.zeros((self.tokens, self.cols), np.int8)
        inputs[: len(seen), : seen.shape[1]] = seen
        descriptor = FIRST * (left == 0) | LAST * (left + self.cols >= group.mask.cols)
        sums = self.tokens * self.lanes if descriptor & LAST else 0
        steps = -(-part.shape[1] // self.group)
        return Tile(descriptor | steps << 8, (Beats(0, packed(weights)), Beats(1, packed(inputs))), sums)

    def sums(self, group: Group, run: WalkRun) -> np.ndarray:
        found = np.zeros((group.tokens + self.tokens, group.mask.rows + self.lanes), np.int64)
        for (top, token, _), tile in zip(self.pieces(group), run.tiles, strict=True):
            if len(tile.sums):
                found[token : token + self.tokens, top : top + self.lanes] = tile.sums.reshape(self.tokens, self.lanes)
        return found[: group.tokens, : group.mask.rows]

    def cycles(self, run: WalkRun) -> list[int]:
        return [sum(tile.busy for tile in run.tiles)]

    def model_cycles(self, group: Group) -> list[int]:
        weights = group.weights.astype(int) if self.skips else None
        found = run(self.model, self.sets, group.mask, group.tokens, weight_bits=8, weights=weights)
        return [found.sparse.compute_cycles]

    def macs(self, group: Group) -> int:
        steps, visits = -(-group.mask.cols // self.group), -(-group.tokens // self.tokens)
        if not self.skips:
            return -(-group.mask.rows // self.lanes) * self.lanes * steps * 8 * visits
        magnitudes = np.pad(np.abs(group.weights), ((0, 0), (0, steps * self.group - group.mask.cols))).view(np.uint8)
        used = np.bitwise_or.reduce(magnitudes.reshape(group.mask.rows, steps, self.group), axis=2)
        return int(np.bitwise_count(used).sum()) * visits
