"""What is run: a mask with integer weights and inputs, random or cut from a real layer."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from workloads.mask import PackedMask

KINDS = ("random", "n of m", "skewed rows", "skewed columns", "holes", "edge", "empty", "full")
PATTERNS = ((1, 4), (2, 4), (4, 8), (1, 8))


@dataclass(frozen=True)
class Group:
    """weights (rows, cols) int8, zero where pruned; inputs (tokens, cols) int8. kind: how the mask was made."""

    mask: PackedMask
    weights: np.ndarray
    inputs: np.ndarray
    kind: str = ""

    @property
    def tokens(self) -> int:
        return len(self.inputs)

    @property
    def kept(self) -> np.ndarray:
        return self.mask.to_dense()

    @property
    def product(self) -> np.ndarray:
        """(tokens, rows) int64."""
        return self.inputs.astype(np.int64) @ self.weights.astype(np.int64).T


def group_of(kept: np.ndarray, tokens: int, rng: np.random.Generator, kind: str = "") -> Group:
    """Weights that are not zero where kept; -128 is left out of both operands."""
    drawn = rng.integers(1, 128, kept.shape) * rng.choice((-1, 1), kept.shape)
    inputs = rng.integers(-127, 128, (tokens, kept.shape[1]))
    return Group(PackedMask.from_dense(kept), np.where(kept, drawn, 0).astype(np.int8), inputs.astype(np.int8), kind)


def random_groups(count: int, rows: int, cols: int, tokens: int, seed: int) -> Iterator[Group]:
    """Of at most these sizes, the kinds in turn. Densities are 1 to 99 % but for the kinds that say else."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        kind = KINDS[i % len(KINDS)]
        shape = int(rng.integers(1, rows + 1)), int(rng.integers(1, cols + 1))
        if kind == "edge":  # one row, one column, or both as large as they come
            shape = ((1, shape[1]), (shape[0], 1), (rows, cols), (1, 1))[rng.integers(4)]
        yield group_of(kept_of(kind, shape, rng), int(rng.integers(1, tokens + 1)), rng, kind)


def kept_of(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    rows, cols = shape
    draw = rng.random(shape)
    density = rng.integers(1, 100) / 100
    if kind == "n of m":
        n, m = PATTERNS[rng.integers(len(PATTERNS))]
        wide = rng.random((rows, -(-cols // m), m)).argsort(axis=2) < n
        return wide.reshape(rows, -1)[:, :cols]
    if kind == "skewed rows":
        return draw < rng.random((rows, 1)) ** 3
    if kind == "skewed columns":
        return draw < rng.random((1, cols)) ** 3
    if kind == "holes":  # empty rows, empty columns, an empty block of both
        kept = draw < density
        kept[rng.random(rows) < 0.3] = False
        kept[:, rng.random(cols) < 0.3] = False
        kept[: rng.integers(rows + 1), : rng.integers(cols + 1)] = False
        return kept
    if kind in ("empty", "full"):
        return np.full(shape, kind == "full")
    return draw < density


def blocks(mask: PackedMask, rows: int, cols: int, tokens: int, seed: int) -> Iterator[Group]:
    """A layer in blocks of rows x cols from its upper left, row by row of blocks, with weights of our own."""
    rng = np.random.default_rng(seed)
    for top in range(0, mask.rows, rows):
        kept = PackedMask(mask.words[top : top + rows], mask.cols).to_dense()
        for left in range(0, mask.cols, cols):
            yield group_of(kept[:, left : left + cols], tokens, rng, "layer")
