"""Codes to integers: both packings, masks, shapes that do not fit, layers without codes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads import PackedMask
from workloads.codes import coded, integers
from workloads.errors import UserError


def pack(codes: np.ndarray) -> np.ndarray:
    """Two codes of up to 4 bits a byte, the first in the lower half."""
    rows, cols = codes.shape
    octets = np.zeros((rows, (cols + 1) // 2), np.uint8)
    for c in range(cols):
        octets[:, c // 2] |= codes[:, c] << (4 * (c % 2))
    return octets


def case(rows: int, groups: int, width: int, bits: int, seed: int):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 1 << bits, (rows, groups * width), dtype=np.uint8)
    zero = rng.integers(0, 1 << bits, (rows, groups), dtype=np.uint8)
    kept = rng.random(codes.shape) < 0.6
    return codes, zero, kept


@given(
    rows=st.integers(1, 5),
    groups=st.integers(1, 5),
    width=st.integers(1, 40),
    bits=st.integers(2, 8),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_integers_are_code_minus_zero_under_the_mask(rows, groups, width, bits, seed):
    codes, zero, kept = case(rows, groups, width, bits, seed)
    stored = pack(codes) if bits <= 4 else codes
    found = integers(coded({"codes": stored, "zero": zero, "scale": np.ones_like(zero)}, PackedMask.from_dense(kept)))
    for r in range(rows):
        for c in range(groups * width):
            assert found[r, c] == (int(codes[r, c]) - int(zero[r, c // width]) if kept[r, c] else 0)


def test_extremes_of_eight_bits():
    codes = np.array([[0, 255, 255, 0]], np.uint8)
    zero = np.array([[255, 0]], np.uint8)
    found = integers(coded({"codes": codes, "zero": zero}, PackedMask.dense(1, 4)))
    assert found.tolist() == [[-255, 0, 255, 0]]


def test_one_column_reads_the_same_packed_or_not():
    codes, zero = np.array([[9], [3]], np.uint8), np.array([[4], [4]], np.uint8)
    found = integers(coded({"codes": codes, "zero": zero}, PackedMask.dense(2, 1)))
    assert found.tolist() == [[5], [-1]]


@pytest.mark.parametrize(
    ("tensors", "words"),
    [({}, "a mask without weights"), ({"float32": np.ones((2, 4), np.float32)}, "float32 weights")],
)
def test_layers_without_codes_say_the_way_out(tensors, words):
    with pytest.raises(UserError, match=words) as caught:
        coded(tensors, PackedMask.dense(2, 4))
    assert "8 bits" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("codes", "zero"),
    [
        (np.zeros((2, 3), np.uint8), np.zeros((2, 1), np.uint8)),
        (np.zeros((1, 4), np.uint8), np.zeros((2, 1), np.uint8)),
        (np.zeros((2, 4), np.uint8), np.zeros((2, 3), np.uint8)),
        (np.zeros((2, 4), np.uint8), np.zeros((2, 0), np.uint8)),
        (np.zeros((2, 4), np.uint8), np.zeros(2, np.uint8)),
        (np.zeros((2, 4), np.int8), np.zeros((2, 1), np.uint8)),
        (np.zeros((2, 4), np.uint8), np.zeros((2, 1), np.float32)),
    ],
)
def test_tensors_that_do_not_fit_are_refused(codes, zero):
    with pytest.raises(UserError, match="make the bundle again"):
        coded({"codes": codes, "zero": zero}, PackedMask.dense(2, 4))
