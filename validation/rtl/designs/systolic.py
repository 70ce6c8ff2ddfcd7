"""The grids: what stays and what streams, fold by fold, in every dataflow of the model."""

import numpy as np

from validation.rtl.designs.design import Design
from validation.rtl.groups import Group
from validation.rtl.job import FIRST, LAST, Beats, Tile, WalkRun, packed
from validation.runs import FREE_MEMORY, ROOMY, run

EDGES = "from the first edge at which operands enter to the last multiplication, numbered from 0 as the model has it"


def wide(values: np.ndarray) -> np.ndarray:
    """Rows of bytes as beats, each row on its own."""
    padded = np.pad(values.astype(np.int8), ((0, 0), (0, -values.shape[1] % 8)))
    return packed(padded)


class Grid(Design):
    """cycles and model_cycles are of whole groups: the model's number is that of a layer's last edge."""

    model = "systolic"
    events = EDGES
    pipeline: int

    def __str__(self) -> str:
        return f"{super().__str__()}, {self.dataflow}"

    def __init__(self, rows: int, cols: int, dataflow: str, choose: tuple[int, int] | None) -> None:
        self.rows, self.cols, self.dataflow, self.choose = rows, cols, dataflow, choose
        nm = ('array.nm="{}:{}"'.format(*choose),) if choose else ()
        self.sets = (
            f"array.rows={rows}", f"array.cols={cols}", f"array.dataflow={dataflow}", *nm, FREE_MEMORY, *ROOMY,
        )  # fmt: skip

    def cycles(self, run: WalkRun) -> list[int]:
        return [sum(tile.busy for tile in run.tiles) - 1]

    def model_cycles(self, group: Group) -> list[int]:
        return [run(self.model, self.sets, group.mask, group.tokens).sparse.compute_cycles]


class Systolic(Grid):
    """ws and is. choose: N:M, for groups that follow it. items: most that stream in a fold."""

    name = "systolic"
    pipeline = 1

    def __init__(
        self, rows: int = 4, cols: int = 3, dataflow: str = "ws", choose: tuple[int, int] | None = None, items: int = 64
    ) -> None:
        super().__init__(rows, cols, dataflow, choose)
        self.items, self.choices = items, choose[1] if choose else 1
        self.parameters = {"ROWS": rows, "COLS": cols, "ITEMS": items, "CHOICES": self.choices}
        self.block = (min(2 * cols, items), 4 * rows * self.choices)
        self.most = (3 * cols + 1, 5 * rows * self.choices, 9) if dataflow == "ws" else (items, 5 * rows, 9)

    def takes(self, group: Group) -> bool:
        if not self.choose:
            return True
        n, m = self.choose
        padded = np.pad(group.kept, ((0, 0), (0, -group.mask.cols % m)))
        return bool(padded.reshape(len(padded), -1, m).sum(axis=2).max() <= n)

    def walk(self, group: Group) -> list[Tile]:
        stays, streams = (group.weights, group.inputs) if self.dataflow == "ws" else (group.inputs, group.weights)
        stays, indices, streams = self.chosen(stays, streams)
        return [
            self.tile(stays, indices, streams, left, top)
            for left in range(0, len(stays), self.cols)
            for top in range(0, stays.shape[1], self.rows)
        ]

    def chosen(self, stays: np.ndarray, streams: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What stays as slots with indices, and the `choices` values that every slot picks from: slots as they are,
        where nothing is chosen."""
        if not self.choose:
            return stays, np.zeros_like(stays), streams[:, :, None]
        n, m = self.choose
        blocks = np.pad(stays, ((0, 0), (0, -stays.shape[1] % m))).reshape(len(stays), -1, m)
        order = np.argsort(blocks == 0, axis=2, kind="stable")[:, :, :n]  # kept ones first, in order
        slots = np.take_along_axis(blocks, order, axis=2).reshape(len(stays), -1)
        seen = np.pad(streams, ((0, 0), (0, -streams.shape[1] % m))).reshape(len(streams), -1, 1, m)
        return slots, order.reshape(len(stays), -1), np.repeat(seen, n, axis=2).reshape(len(streams), -1, m)

    def tile(self, stays: np.ndarray, indices: np.ndarray, streams: np.ndarray, left: int, top: int) -> Tile:
        def grid(of: np.ndarray) -> np.ndarray:  # (rows, cols): inputs down, what stays across
            part = of[left : left + self.cols, top : top + self.rows].T
            return np.pad(part, ((0, self.rows - part.shape[0]), (0, self.cols - part.shape[1])))

        part = streams[:, top : top + self.rows]
        items = np.pad(part, ((0, 0), (0, self.rows - part.shape[1]), (0, 0))).reshape(len(part), -1)
        first, last = top == 0, top + self.rows >= stays.shape[1]
        beats = [Beats(0, wide(grid(stays))), Beats(1, wide(items))]
        if self.choose:
            beats.append(Beats(2, wide(grid(indices))))
        descriptor = FIRST * first | LAST * last | len(items) << 8
        return Tile(descriptor, tuple(beats), len(items) * self.cols if last else 0)

    def sums(self, group: Group, run: WalkRun) -> np.ndarray:
        ends = [tile.sums.reshape(-1, self.cols) for tile in run.tiles if len(tile.sums)]
        found = np.concatenate(ends, axis=1)
        return found[:, : group.mask.rows] if self.dataflow == "ws" else found[:, : group.tokens].T

    def macs(self, group: Group) -> int:
        """Every cell with every item, zeros and padding too."""
        stays, streams = (group.mask.rows, group.tokens) if self.dataflow == "ws" else (group.tokens, group.mask.rows)
        slots = group.mask.cols if not self.choose else self.choose[0] * -(-group.mask.cols // self.choose[1])
        return -(-stays // self.cols) * -(-slots // self.rows) * self.rows * self.cols * streams


class SystolicOs(Grid):
    """os: all inputs of a fold in one tile."""

    name = "systolic_os"

    def __init__(self, rows: int = 4, cols: int = 5, steps: int = 64) -> None:
        super().__init__(rows, cols, "os", None)
        self.parameters = {"ROWS": rows, "COLS": cols, "STEPS": steps}
        self.block = (2 * cols, steps)
        self.most = (3 * cols + 1, steps, 3 * rows + 1)

    @property
    def pipeline(self) -> int:  # type: ignore[override]
        """Edges from the last multiplication to the last sum: the chain up a column."""
        return self.rows

    def walk(self, group: Group) -> list[Tile]:
        return [
            self.tile(group, token, output)
            for token in range(0, group.tokens, self.rows)
            for output in range(0, group.mask.rows, self.cols)
        ]

    def tile(self, group: Group, token: int, output: int) -> Tile:
        def padded(of: np.ndarray, size: int) -> np.ndarray:  # (steps, size)
            return np.pad(of.T, ((0, 0), (0, size - len(of))))

        tokens, weights = group.inputs[token : token + self.rows], group.weights[output : output + self.cols]
        beats = (Beats(0, wide(padded(tokens, self.rows))), Beats(1, wide(padded(weights, self.cols))))
        return Tile(FIRST | LAST | group.mask.cols << 8, beats, self.rows * self.cols)

    def sums(self, group: Group, run: WalkRun) -> np.ndarray:
        across = -(-group.mask.rows // self.cols)
        found = np.array([tile.sums for tile in run.tiles]).reshape(-1, across, self.rows, self.cols)
        whole = found.transpose(0, 2, 1, 3).reshape(-1, across * self.cols)
        return whole[: group.tokens, : group.mask.rows]

    def macs(self, group: Group) -> int:
        folds = -(-group.mask.rows // self.cols) * -(-group.tokens // self.rows)
        return folds * self.rows * self.cols * group.mask.cols
