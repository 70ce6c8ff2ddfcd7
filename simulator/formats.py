"""Weight formats: how many values a block of a weight matrix stores, and how many bits of metadata, exactly.

A block (granule) is compressed on its own: its indices count from its own corner and it has its own pointers.

    dense    every position; no metadata
    bitmap   kept values; one bit a position
    csr      kept values; a column index each, and rows + 1 pointers
    csc      kept values; a row index each, and cols + 1 pointers
    coo      kept values; a row and a column index each
    rle      kept values and padding zeros along each row; a 4-bit count of the zeros before each (EIE's code, Han et
    al., ISCA
             2016, section 3: a zero is stored wherever 15 zeros do not suffice), and rows + 1 pointers
    macko    kept values and a zero for every 16th of successive zeros along each row, the last of a row included; a
             4-bit count of what lies before each, rows + 1 pointers of 32 bits; values to a multiple of 8 (MACKO,
             arXiv 2511.13061, as its published encoder has it)
    2:4 ...  N slots of every M inputs, filled or not; ceil(log2 M) bits each (packed N:M)
"""

from typing import Annotated

import numpy as np
from numba import njit
from pydantic import AfterValidator

from simulator.cycles import ceil_div
from workloads.errors import UserError, meant
from workloads.mask import PackedMask
from workloads.patterns import parse_pattern

FORMATS = ("dense", "bitmap", "csr", "csc", "coo", "rle", "macko")
RUN_BITS = 4
MACKO_POINTER_BITS, MACKO_VALUES = 32, 8


def known_format(name: str) -> str:
    if name not in FORMATS:
        try:
            if parse_pattern(name) is None:
                raise UserError("")
        except UserError:
            raise ValueError(
                f"no weight format; {meant(name, FORMATS)}known: {', '.join(FORMATS)}, or N:M such as 2:4"
            ) from None
    return name


WeightFormat = Annotated[str, AfterValidator(known_format)]


def index_bits(places: int) -> int:
    """Bits that tell `places` places apart; at least 1."""
    return max(1, (places - 1).bit_length())


def stored(weight_format: str, mask: PackedMask, block_rows: int, block_cols: int) -> tuple[np.ndarray, np.ndarray]:
    """(values, metadata bits) of every block, each (row blocks, column blocks) int64.

    Raises UserError for a format N:M when a run of M inputs keeps more than N.
    """
    rows, cols = block_sides(mask.rows, block_rows), block_sides(mask.cols, block_cols)
    area = rows[:, None] * cols
    if weight_format == "dense":
        return area, np.zeros_like(area)
    if ":" in weight_format:
        return _packed(weight_format, mask, rows, cols)
    kept = mask.tile_counts(block_rows, block_cols)
    column, row = index_bits(min(block_cols, mask.cols)), index_bits(min(block_rows, mask.rows))
    pointer = index_bits(int(area.max()) + 1)
    if weight_format == "bitmap":
        return kept, area
    if weight_format == "csr":
        return kept, kept * column + (rows + 1)[:, None] * pointer
    if weight_format == "csc":
        return kept, kept * row + (cols + 1) * pointer
    if weight_format == "coo":
        return kept, kept * (row + column)
    tails = weight_format == "macko"
    values = kept + run_paddings(mask.words, mask.cols, block_rows, block_cols, (1 << RUN_BITS) - 1, tails)
    if tails:
        values = -(-values // MACKO_VALUES) * MACKO_VALUES
        return values, values * RUN_BITS + (rows + 1)[:, None] * MACKO_POINTER_BITS
    return values, values * RUN_BITS + (rows + 1)[:, None] * pointer


def _packed(weight_format: str, mask: PackedMask, rows: np.ndarray, cols: np.ndarray):
    pattern = parse_pattern(weight_format)
    assert pattern is not None
    if not mask.follows(pattern.n, pattern.m):
        raise UserError(
            f"the mask keeps more than {pattern.n} of {pattern.m} inputs somewhere; not storable as {weight_format}"
        )
    values = rows[:, None] * (-(-cols // pattern.m) * pattern.n)
    return values, values * index_bits(pattern.m)


def block_sides(length: int, block: int) -> np.ndarray:
    """Lengths of the blocks that `length` is cut into, (ceil(length / block),) int64; the last may be shorter."""
    starts = block * np.arange(ceil_div(length, block), dtype=np.int64)
    return np.minimum(block, length - starts)


@njit(cache=True, nogil=True)
def run_paddings(
    words: np.ndarray, cols: int, block_rows: int, block_cols: int, longest: int, tails: bool
) -> np.ndarray:
    """Padding zeros of every block: along each row, one for every longest + 1 zeros in front of a kept weight. Zeros
    after the last kept weight of a row are stored likewise if `tails`, else not at all."""
    rows = words.shape[0]
    paddings = np.zeros((-(-rows // block_rows), -(-cols // block_cols)), dtype=np.int64)
    for r in range(rows):
        run = 0
        for c in range(cols):
            if c % block_cols == 0:
                if tails and c:
                    paddings[r // block_rows, c // block_cols - 1] += run // (longest + 1)
                run = 0
            if words[r, c >> 6] >> np.uint64(c & 63) & np.uint64(1):
                paddings[r // block_rows, c // block_cols] += run // (longest + 1)
                run = 0
            else:
                run += 1
        if tails:
            paddings[r // block_rows, (cols - 1) // block_cols] += run // (longest + 1)
    return paddings


def scale_bits(rows: np.ndarray, cols: np.ndarray, group_size: int | None, scale: int, zero: int) -> np.ndarray:
    """Bits of scales and zero points whose group starts in each block, (row blocks, column blocks): a group is
    `group_size` inputs of a row (None: the whole row), with a scale of `scale` and a zero point of `zero` bits."""
    ends = np.cumsum(cols)
    before = ends - cols
    groups = -(-ends // group_size) - -(-before // group_size) if group_size else (before == 0).astype(np.int64)
    return rows[:, None] * groups * (scale + zero)
