"""The lane-skipping array in RTL (lane_skip.sv): a mask as tiles of it, and what is compared with the model."""

from pathlib import Path
from typing import ClassVar

import numpy as np

from prunesim.rtl import FIRST, FREE_MEMORY, LAST, ROOMY, Beats, Design, Group, Tile, WalkRun, packed, run

HERE = Path(__file__).parent
LANES, DEPTH, TOKENS = 4, 64, 2
MEMORY = ("dram.device=generic", FREE_MEMORY, *ROOMY)  # the array alone is compared


class LaneSkipRtl(Design):
    name = "lane_skip"
    model = f"{HERE}/lane_skip.py:LaneSkip"
    file = HERE / "lane_skip.sv"
    parameters: ClassVar = {"LANES": LANES, "TOKENS": TOKENS}
    sets = (f"array.lanes={LANES}", f"array.depth={DEPTH}", f"array.tokens={TOKENS}", *MEMORY)
    most = (4 * LANES, 3 * DEPTH, 3 * TOKENS)  # of a random mask: outputs, inputs, tokens
    block = (LANES, DEPTH)  # that a real layer is cut into
    constants: ClassVar = {"EMPTY_TILE": "a window that keeps nothing takes a cycle to step over"}

    def places(self, group: Group) -> list[tuple[int, int, int]]:
        """First output, token and input of every tile."""
        return [
            (row, token, col)
            for row in range(0, group.mask.rows, LANES)
            for token in range(0, group.tokens, TOKENS)
            for col in range(0, group.mask.cols, DEPTH)
        ]

    def walk(self, group: Group) -> list[Tile]:
        return [self.tile(group, *place) for place in self.places(group)]

    def tile(self, group: Group, row: int, token: int, col: int) -> Tile:
        words, values = np.zeros(LANES, np.uint64), np.zeros((LANES, DEPTH), np.int8)
        for lane, output in enumerate(range(row, min(row + LANES, group.mask.rows))):
            words[lane] = group.mask.words[output, col // DEPTH]  # as bundles store it
            kept = group.weights[output, col : col + DEPTH][group.kept[output, col : col + DEPTH]]
            values[lane, : len(kept)] = kept
        inputs = np.zeros((TOKENS, DEPTH), np.int8)
        part = group.inputs[token : token + TOKENS, col : col + DEPTH]
        inputs[: len(part), : part.shape[1]] = part
        first, last = col == 0, col + DEPTH >= group.mask.cols
        beats = (Beats(0, words), Beats(1, packed(values)), Beats(2, packed(inputs)))
        return Tile(FIRST * first | LAST * last, beats, LANES * TOKENS if last else 0)

    def sums(self, group: Group, run: WalkRun) -> np.ndarray:
        found = np.zeros((group.tokens + TOKENS, group.mask.rows + LANES), np.int64)
        for (row, token, _), tile in zip(self.places(group), run.tiles, strict=True):
            if len(tile.sums):
                found[token : token + TOKENS, row : row + LANES] = tile.sums.reshape(TOKENS, LANES)
        return found[: group.tokens, : group.mask.rows]

    def cycles(self, run: WalkRun) -> list[int]:
        return [sum(tile.busy for tile in run.tiles)]

    def model_cycles(self, group: Group) -> list[int]:
        return [run(self.model, self.sets, group.mask, group.tokens).sparse.compute_cycles]

    def left_over(self, group: Group, run: WalkRun) -> list[dict[str, int]]:
        return [{"EMPTY_TILE": sum(tile.ins == 0 for tile in run.tiles)}]

    def macs(self, group: Group) -> int:
        return group.mask.nnz * -(-group.tokens // TOKENS) * TOKENS  # of a step of tokens, whole or not
