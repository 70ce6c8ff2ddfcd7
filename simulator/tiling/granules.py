"""Granules: the smallest pieces into which a design cuts a layer, what each costs, and their sums over tiles."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit

from simulator.formats import block_sides, stored
from workloads.errors import UserError, unknown
from workloads.mask import PackedMask

_OF_GRANULES = ("step_cycles", "visit_cycles", "values", "metadata_bits")  # one value a granule


@dataclass(frozen=True)
class Granules:
    """A layer as (row groups, column groups) of granules; tiles are rectangles of whole granules, so that costs add up.

    A visit of a granule with t tokens takes visit_cycles + ceil(t / token_step) * step_cycles / step_unit. stationary
    "weight": weights are read from their buffer once a visit, partial sums are read and written in theirs. "output":
    weights are read at every step, sums stay in the array until a tile is done. `act_reads` is how often an input of a
    granule leaves its buffer for one token. step_unit > 1 keeps expected cycles (sparse activations) as whole numbers.
    """

    rows: np.ndarray  # (row groups,) outputs of each
    cols: np.ndarray  # (column groups,) inputs of each
    values: np.ndarray  # (row groups, column groups) stored weight values
    metadata_bits: np.ndarray
    step_cycles: np.ndarray
    visit_cycles: np.ndarray
    token_step: int = 1
    step_unit: int = 1
    stationary: Literal["weight", "output"] = "weight"
    act_reads: float = 1.0

    def __post_init__(self) -> None:
        """Raises UserError for what no mapper could take."""
        shape = (np.size(self.rows), np.size(self.cols))
        shapes = {"rows": shape[:1], "cols": shape[1:]} | dict.fromkeys(_OF_GRANULES, shape)
        for name, wanted in shapes.items():
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.shape != wanted:
                form = f"of shape {array.shape}" if isinstance(array, np.ndarray) else f"{type(array).__name__}"
                raise UserError(f"a design's granules have {name} {form}; it is an array of shape {wanted}")
            least = array.min(initial=0)
            if not least >= 0 or array.dtype.kind not in "biu":  # NaN is refused, too
                found = least if not least >= 0 else f"type {array.dtype}"
                raise UserError(f"a design's granules hold {name} of {found}; they are counts, whole and 0 or more")
        if min(self.token_step, self.step_unit) < 1 or not 0 <= self.act_reads < np.inf:
            raise UserError(
                f"a design's granules have token_step = {self.token_step}, step_unit = {self.step_unit}, act_reads = "
                f"{self.act_reads}; they are 1 or more, 1 or more, and 0 or more"
            )
        if self.stationary not in ("weight", "output"):
            raise unknown("stationary of a design's granules", str(self.stationary), ("weight", "output"))

    @property
    def granule(self) -> tuple[int, int]:
        return int(self.rows[0]), int(self.cols[0])


@dataclass(frozen=True)
class Level:
    """A granules's granules summed over tiles of `row_granules` x `col_granules`; all arrays (row tiles, column tiles)
    int64."""

    row_granules: int
    col_granules: int
    rows: np.ndarray
    cols: np.ndarray
    row_groups: np.ndarray  # (row tiles,) granules of each
    col_groups: np.ndarray
    values: np.ndarray
    metadata_bits: np.ndarray
    step_cycles: np.ndarray
    visit_cycles: np.ndarray


@njit(cache=True, nogil=True)
def tile_sums(cells: np.ndarray, row_granules: int, col_granules: int) -> np.ndarray:
    """(r, c) -> (ceil(r / row_granules), ceil(c / col_granules)) sums."""
    r, c = cells.shape
    sums = np.zeros((-(-r // row_granules), -(-c // col_granules)), dtype=np.int64)
    for i in range(r):
        for j in range(c):
            sums[i // row_granules, j // col_granules] += cells[i, j]
    return sums


def level_of(granules: Granules, row_granules: int, col_granules: int) -> Level:
    def sums(cells: np.ndarray) -> np.ndarray:
        return tile_sums(cells, row_granules, col_granules)

    row_starts = np.arange(0, len(granules.rows), row_granules)
    col_starts = np.arange(0, len(granules.cols), col_granules)
    return Level(
        row_granules,
        col_granules,
        np.add.reduceat(granules.rows, row_starts),
        np.add.reduceat(granules.cols, col_starts),
        np.minimum(row_granules, len(granules.rows) - row_starts),
        np.minimum(col_granules, len(granules.cols) - col_starts),
        sums(granules.values),
        sums(granules.metadata_bits),
        sums(granules.step_cycles),
        sums(granules.visit_cycles),
    )


def fingerprint(granules: Granules) -> tuple[int, int]:
    """Tells apart granules of one layer's statistics whose cycles differ: they may follow from more of a spec than its
    geometry."""
    return hash(granules.step_cycles.tobytes()), hash(granules.visit_cycles.tobytes())


def doubled(granules: int) -> list[int]:
    """Tile sides to try, in granules: powers of two up to the first that takes in all of them."""
    sides = [1]
    while sides[-1] < granules:
        sides.append(2 * sides[-1])
    return sides


def storage_arrays(weight_format: str, mask: PackedMask, block_rows: int, block_cols: int) -> dict[str, np.ndarray]:
    """What every granules design gathers beside its cycles: sides, stored values and metadata of the granules."""
    values, metadata_bits = stored(weight_format, mask, block_rows, block_cols)
    return {
        "rows": block_sides(mask.rows, block_rows),
        "cols": block_sides(mask.cols, block_cols),
        "values": values,
        "metadata_bits": metadata_bits,
    }


def dense_storage(rows: int, cols: int, block_rows: int, block_cols: int) -> dict[str, np.ndarray]:
    """The same of an unpruned layer: every value, no metadata."""
    row_sides, col_sides = block_sides(rows, block_rows), block_sides(cols, block_cols)
    values = row_sides[:, None] * col_sides
    return {"rows": row_sides, "cols": col_sides, "values": values, "metadata_bits": np.zeros_like(values)}


def check_override(name: str, tile: int, granule: int, whole: int | None = None) -> int:
    """Granules in a tile of `tile` outputs, inputs or tokens of `whole`. Raises UserError unless it is a multiple of
    the granule, or takes in everything."""
    if whole is not None and tile >= whole:
        return -(-whole // granule)
    if tile % granule:
        raise UserError(
            f"mapping.{name} = {tile} is no multiple of {granule}, the smallest piece of this design; 0 lets the "
            f"mapper choose"
        )
    return tile // granule
