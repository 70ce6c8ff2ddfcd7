"""PackedMask: the kept / pruned pattern of one weight matrix at one bit a weight."""

import hashlib

import numpy as np

from workloads import bits
from workloads.errors import UserError


class PackedMask:
    """A mask of shape (rows = out_features, cols = in_features); bit 1 = kept.

    `words` is (rows, ceil(cols / 64)) uint64, bit j of word w = column 64*w + j, unused bits zero. Immutable by
    convention: every method returns a new object.
    """

    __slots__ = ("cols", "rows", "words")

    def __init__(self, words: np.ndarray, cols: int):
        """Raises UserError if the words cannot hold `cols` columns or unused bits are set."""
        if words.ndim != 2 or words.dtype != np.uint64 or words.shape[1] != -(-cols // 64) or 0 in words.shape:
            raise UserError(f"mask words of shape {words.shape} {words.dtype} do not hold {cols} columns")
        unused = words.shape[1] * 64 - cols
        if unused and int(words[:, -1].max()) >> (64 - unused):
            raise UserError(f"mask words of {cols} columns have bits set beyond the last column")
        self.words = words
        self.rows = words.shape[0]
        self.cols = cols

    @classmethod
    def from_dense(cls, dense: np.ndarray) -> "PackedMask":
        """From a boolean or 0/1 array (rows, cols). Raises UserError if it is not 2-D, empty, or holds other values."""
        dense = np.asarray(dense)
        if dense.ndim != 2:
            raise UserError(f"a mask is 2-D (out_features, in_features); this array has shape {dense.shape}")
        if dense.size == 0:
            raise UserError(f"the mask is empty: shape {dense.shape}")
        if dense.dtype != np.bool_:
            if dense.dtype.kind not in "iuf":
                raise UserError(f"a mask holds booleans or 0/1; this array is of type {dense.dtype}")
            fits = np.isin(dense, (0, 1))
            if not fits.all():
                raise UserError(
                    f"a mask holds booleans or 0/1; this {dense.dtype} array of shape {dense.shape} holds "
                    f"{np.count_nonzero(~fits)} other values, the first is {dense[~fits][0]}"
                )
            dense = dense.astype(bool)
        return cls(bits.pack(dense), dense.shape[1])

    @classmethod
    def dense(cls, rows: int, cols: int) -> "PackedMask":
        """Everything kept."""
        words = np.full((rows, -(-cols // 64)), ~np.uint64(0), dtype=np.uint64)
        if cols % 64:
            words[:, -1] = (1 << cols % 64) - 1
        return cls(words, cols)

    def to_dense(self) -> np.ndarray:
        """Boolean (rows, cols), True = kept."""
        return bits.unpack(self.words, self.cols)

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.cols

    @property
    def nnz(self) -> int:
        """Kept weights."""
        return int(self.row_counts().sum())

    @property
    def sparsity(self) -> float:
        """Share of zeros, 0..1."""
        return 1 - self.nnz / (self.rows * self.cols)

    def row_counts(self) -> np.ndarray:
        """Kept weights of every row: (rows,) int64."""
        return bits.row_counts(self.words)

    def column_counts(self) -> np.ndarray:
        """Kept weights of every column: (cols,) int64."""
        return bits.column_counts(self.words)[: self.cols]

    def tile_counts(self, tile_rows: int, tile_cols: int) -> np.ndarray:
        """Kept weights of every tile: (ceil(rows / tile_rows), ceil(cols / tile_cols)) int64; edge tiles are
        smaller."""
        if tile_rows < 1 or tile_cols < 1:
            raise UserError(f"a tile needs at least one row and one column, not {tile_rows}x{tile_cols}")
        if tile_cols % 64 == 0:
            per_row = np.add.reduceat(
                bits.word_counts(self.words), np.arange(0, self.words.shape[1], tile_cols // 64), axis=1, dtype=np.int64
            )
        else:
            starts = range(0, self.cols, tile_cols)
            per_row = np.stack([self.columns(s, min(s + tile_cols, self.cols)).row_counts() for s in starts], axis=1)
        return np.add.reduceat(per_row, np.arange(0, self.rows, tile_rows), axis=0)

    def columns(self, start: int, stop: int) -> "PackedMask":
        """The columns start..stop-1 as a mask of their own."""
        if not 0 <= start < stop <= self.cols:
            raise UserError(f"columns {start}..{stop} are not within a mask of {self.cols} columns")
        first, shift = divmod(start, 64)
        cols = stop - start
        n_words = -(-cols // 64)
        words = np.zeros((self.rows, n_words), dtype=np.uint64)
        low = self.words[:, first : first + n_words]
        words[:, : low.shape[1]] = low >> np.uint64(shift)
        if shift:
            high = self.words[:, first + 1 : first + 1 + n_words]
            words[:, : high.shape[1]] |= high << np.uint64(64 - shift)
        if cols % 64:
            words[:, -1] &= np.uint64((1 << cols % 64) - 1)
        return PackedMask(words, cols)

    def follows(self, n: int, m: int) -> bool:
        """Whether every aligned run of m inputs keeps at most n (a shorter last run counts as well)."""
        if not 1 <= n <= m <= 64:
            raise UserError(f"pattern {n}:{m} is not possible: needs 1 <= N <= M <= 64")
        if m in (4, 8, 16):
            return n == m or not bits.field_exceeds(self.words, n, m)
        return int(bits.largest_run(self.words, self.cols, m)) <= n

    def complement(self) -> "PackedMask":
        """Kept and pruned exchanged."""
        return PackedMask(self.words ^ PackedMask.dense(self.rows, self.cols).words, self.cols)

    def transposed(self) -> "PackedMask":
        return PackedMask.from_dense(self.to_dense().T)

    def sha256(self) -> str:
        """Hash of shape and bits."""
        digest = hashlib.sha256(f"{self.rows}x{self.cols}:".encode())
        digest.update(np.ascontiguousarray(self.words, dtype="<u8").data)
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PackedMask) and self.shape == other.shape and np.array_equal(self.words, other.words)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"PackedMask({self.rows}x{self.cols}, {self.nnz} kept)"
