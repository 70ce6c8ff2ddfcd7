"""PackedMask against dense numpy arrays and slow loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads import bits
from workloads.errors import UserError
from workloads.mask import PackedMask

FEW = settings(max_examples=40, deadline=None)


@st.composite
def dense_masks(draw: st.DrawFn, max_rows: int = 40, max_cols: int = 200) -> np.ndarray:
    """Boolean (rows, cols); the sizes lean towards the borders of a word and of the seven rows the adders take."""
    rows = draw(st.sampled_from([1, 6, 7, 8, 15]) | st.integers(1, max_rows))
    cols = draw(st.sampled_from([1, 63, 64, 65, 127, 128, 129]) | st.integers(1, max_cols))
    density = draw(st.sampled_from([0.0, 0.03, 0.5, 0.97, 1.0]))
    return np.random.default_rng(draw(st.integers(0, 2**32))).random((rows, cols)) < density


def random_mask(rows: int, cols: int, density: float = 0.5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((rows, cols)) < density


@FEW
@given(dense_masks())
def test_round_trip(dense: np.ndarray) -> None:
    mask = PackedMask.from_dense(dense)
    assert mask.shape == (mask.rows, mask.cols) == dense.shape
    assert mask.words.shape == (dense.shape[0], (dense.shape[1] + 63) // 64)
    assert mask.to_dense().dtype == np.bool_
    assert np.array_equal(mask.to_dense(), dense)
    assert PackedMask(mask.words, mask.cols) == mask


@FEW
@given(dense_masks(max_rows=4))
def test_bit_j_of_word_w_is_column_64w_plus_j(dense: np.ndarray) -> None:
    want = [
        [sum(1 << int(c - start) for c in np.flatnonzero(row) if start <= c < start + 64)
         for start in range(0, dense.shape[1], 64)]
        for row in dense
    ]  # fmt: skip
    assert PackedMask.from_dense(dense).words.tolist() == want


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64", "float16", "float32", "float64"])
def test_every_number_type_of_zeros_and_ones(dtype: str) -> None:
    dense = random_mask(5, 70)
    assert np.array_equal(PackedMask.from_dense(dense.astype(dtype)).to_dense(), dense)


@pytest.mark.parametrize("change", [np.asfortranarray, lambda a: a[::2], lambda a: a[:, ::3], lambda a: a.T])
def test_any_memory_layout(change) -> None:
    dense = change(random_mask(30, 130))
    mask = PackedMask.from_dense(dense)
    assert np.array_equal(mask.to_dense(), dense)
    strided = PackedMask(np.asfortranarray(mask.words), mask.cols)
    assert strided == mask
    assert strided.sha256() == mask.sha256()
    assert np.array_equal(strided.column_counts(), dense.sum(axis=0))


@FEW
@given(dense_masks())
def test_counts(dense: np.ndarray) -> None:
    mask = PackedMask.from_dense(dense)
    assert mask.nnz == dense.sum()
    assert mask.sparsity == pytest.approx((~dense).mean())
    assert np.array_equal(mask.row_counts(), dense.sum(axis=1))
    assert np.array_equal(mask.column_counts(), dense.sum(axis=0))


@pytest.mark.parametrize("rows", [1, 7, 8, 255, 256, 1000])
def test_column_counts_of_full_columns_carry_all_the_way(rows: int) -> None:
    dense = np.zeros((rows, 130), dtype=bool)
    dense[:, [0, 63, 64, 129]] = True
    dense[: rows // 2, 77] = True
    assert np.array_equal(PackedMask.from_dense(dense).column_counts(), dense.sum(axis=0))


@FEW
@given(dense_masks(), st.integers(1, 50), st.sampled_from([64, 128, 192, 256]) | st.integers(1, 250))
def test_tile_counts(dense: np.ndarray, tile_rows: int, tile_cols: int) -> None:
    want = [
        [int(dense[r : r + tile_rows, c : c + tile_cols].sum()) for c in range(0, dense.shape[1], tile_cols)]
        for r in range(0, dense.shape[0], tile_rows)
    ]
    assert PackedMask.from_dense(dense).tile_counts(tile_rows, tile_cols).tolist() == want


@FEW
@given(dense_masks(), st.data())
def test_columns_are_a_slice(dense: np.ndarray, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, dense.shape[1] - 1))
    stop = data.draw(st.integers(start + 1, dense.shape[1]))
    part = PackedMask.from_dense(dense).columns(start, stop)
    assert part == PackedMask.from_dense(dense[:, start:stop])


@FEW
@given(dense_masks(max_rows=6), st.sampled_from([3, 4, 5, 8, 24, 33, 48, 63, 64]), st.integers(0, 2**32))
def test_follows(dense: np.ndarray, m: int, seed: int) -> None:
    """Against a loop over runs, with n at, below and above the fullest run."""
    dense = dense & (np.random.default_rng(seed).random(dense.shape) < 0.5)
    mask = PackedMask.from_dense(dense)
    fullest = max(int(row[first : first + m].sum()) for row in dense for first in range(0, dense.shape[1], m))
    for n in {1, max(fullest - 1, 1), max(fullest, 1), min(fullest + 1, m), m}:
        assert mask.follows(n, m) == (fullest <= n)


@pytest.mark.parametrize("m", [2, 3, 5, 7, 11, 13, 31, 33, 63, 64])
def test_follows_sees_every_run_whole(m: int) -> None:
    """One full run in an empty mask, at each place: also where one bit of it lies in the next word."""
    for first in range(0, 200 - m + 1, m):
        dense = np.zeros((2, 200), dtype=bool)
        dense[1, first : first + m] = True
        assert PackedMask.from_dense(dense).follows(m, m)
        assert not PackedMask.from_dense(dense).follows(m - 1, m)


def test_follows_counts_the_short_last_run() -> None:
    dense = np.zeros((1, 66), dtype=bool)
    dense[0, 64:] = True
    assert not PackedMask.from_dense(dense).follows(1, 4)
    assert PackedMask.from_dense(dense).follows(2, 4)


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (3, 63), (3, 64), (2, 65), (9, 200)])
def test_dense_keeps_everything_and_no_unused_bit(rows: int, cols: int) -> None:
    mask = PackedMask.dense(rows, cols)
    assert mask == PackedMask.from_dense(np.ones((rows, cols), dtype=bool))
    assert mask.nnz == rows * cols
    assert mask.sparsity == 0


@pytest.mark.parametrize("bit", [6, 7, 63])
def test_unused_bits_are_refused(bit: int) -> None:
    words = np.zeros((3, 2), dtype=np.uint64)
    words[1, 1] = np.uint64(1) << np.uint64(bit)
    with pytest.raises(UserError, match="70 columns have bits set beyond the last column"):
        PackedMask(words, 70)
    words[1, 1] = np.uint64(1) << np.uint64(5)
    assert PackedMask(words, 70).to_dense().nonzero() == (1, 69)


@pytest.mark.parametrize(
    ("words", "cols"),
    [
        (np.zeros((3, 2), np.uint64), 64), (np.zeros((3, 2), np.uint64), 129), (np.zeros((3, 2), np.int64), 128),
        (np.zeros(2, np.uint64), 128), (np.zeros((0, 2), np.uint64), 128), (np.zeros((3, 0), np.uint64), 0),
        (np.zeros((3, 0), np.uint64), -5),
    ],
)  # fmt: skip
def test_words_that_do_not_hold_the_columns(words: np.ndarray, cols: int) -> None:
    with pytest.raises(UserError, match=f"do not hold {cols} columns"):
        PackedMask(words, cols)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones(4), r"2-D .* shape \(4,\)"), (np.ones((2, 3, 4)), r"shape \(2, 3, 4\)"),
        (np.bool_(True), r"shape \(\)"),
        (np.ones((0, 4)), r"empty: shape \(0, 4\)"), (np.ones((4, 0), bool), r"empty: shape \(4, 0\)"),
        (np.array([[0, 1, 2, 3]]), "2 other values, the first is 2"), (np.array([[0, -1]]), "the first is -1"),
        (np.array([[1.0, float("nan")]]), "1 other values, the first is nan"), (np.array([[0.5]]), "first is 0.5"),
        (np.array([[True, False]], dtype=object), "type object"), (np.array([["0", "1"]]), "type <U1"),
        (np.array([[1 + 0j]]), "type complex128"),
    ],
)  # fmt: skip
def test_arrays_that_are_no_mask(array: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        PackedMask.from_dense(array)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("n", "m"), [(0, 4), (5, 4), (1, 65), (-1, 4)])
def test_impossible_patterns(n: int, m: int) -> None:
    with pytest.raises(UserError, match=f"pattern {n}:{m} is not possible"):
        PackedMask.dense(2, 64).follows(n, m)


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (5, 5), (6, 5), (0, 71)])
def test_columns_outside(start: int, stop: int) -> None:
    with pytest.raises(UserError, match="not within a mask of 70 columns"):
        PackedMask.dense(2, 70).columns(start, stop)


@pytest.mark.parametrize(("tile_rows", "tile_cols"), [(0, 4), (4, 0), (-1, 64)])
def test_tiles_without_weights(tile_rows: int, tile_cols: int) -> None:
    with pytest.raises(UserError, match=f"not {tile_rows}x{tile_cols}"):
        PackedMask.dense(2, 70).tile_counts(tile_rows, tile_cols)


def test_hash_and_equality_see_every_bit_and_the_shape() -> None:
    dense = random_mask(3, 67)
    mask = PackedMask.from_dense(dense)
    hashes = {mask.sha256()}
    for r, c in np.ndindex(dense.shape):
        flipped = dense.copy()
        flipped[r, c] ^= True
        other = PackedMask.from_dense(flipped)
        assert other != mask
        hashes.add(other.sha256())
    for shape in [(3, 66), (3, 68), (2, 67), (4, 67), (67, 3), (1, 128), (2, 64)]:
        hashes.add(PackedMask.from_dense(np.zeros(shape, dtype=bool)).sha256())
    assert len(hashes) == 1 + dense.size + 7
    assert PackedMask.from_dense(dense.copy()).sha256() == mask.sha256()
    assert mask != dense.tolist()


def test_same_words_of_another_width_are_another_mask() -> None:
    words = np.array([[1]], dtype=np.uint64)
    assert PackedMask(words, 5) != PackedMask(words, 6)
    assert PackedMask(words, 5).sha256() != PackedMask(words, 6).sha256()


@given(st.integers(1, 40), st.integers(0, 10**6), st.data())
@FEW
def test_checksums_see_any_changed_or_exchanged_word(n: int, seed: int, data: st.DataObject) -> None:
    words = np.random.default_rng(seed).integers(0, 1 << 64, (1, n), dtype=np.uint64)
    kept, checksum = bits.count_and_checksum(words)
    assert kept == sum(int(word).bit_count() for word in words[0])
    assert bits.count_and_checksum(words.reshape(n, 1)) == (kept, checksum)
    place = data.draw(st.integers(0, n - 1))
    flipped = words.copy()
    flipped[0, place] ^= np.uint64(1 << data.draw(st.integers(0, 63)))
    assert bits.count_and_checksum(flipped)[1] != checksum
    other = data.draw(st.integers(0, n - 1))
    swapped = words.copy()
    swapped[0, [place, other]] = swapped[0, [other, place]]
    assert (bits.count_and_checksum(swapped)[1] == checksum) == (words[0, place] == words[0, other])


@pytest.mark.parametrize("m", [4, 8, 16])
@given(dense=dense_masks(), seed=st.integers(0, 10**6))
@FEW
def test_runs_counted_side_by_side_are_the_largest_run(m: int, dense: np.ndarray, seed: int) -> None:
    mask = PackedMask.from_dense(dense)
    largest = int(bits.largest_run(mask.words, mask.cols, m))
    for n in range(1, m + 1):
        assert mask.follows(n, m) == (largest <= n)
