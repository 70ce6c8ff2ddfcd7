"""A convolution is the matrix product it lowers to: a slow direct sum agrees with columns of windows."""

import itertools

import numpy as np
import pytest

from workloads.errors import UserError
from workloads.mask import PackedMask
from workloads.operations import Convolution, Weights, without_mask


def convolution(filters=3, channels=2, image=(6, 5), window=(3, 2), stride=(2, 1), padding=(1, 0), kept=None):
    if kept is None:
        weights = without_mask("unstructured", filters * channels * window[0] * window[1])
    else:
        mask = PackedMask.from_dense(kept)
        weights = Weights("unstructured", mask.nnz, mask.sha256(), lambda: mask)
    return Convolution("c", "other", 0, filters, channels, image, window, weights, stride, padding)


def direct(images: np.ndarray, filters: np.ndarray, stride: tuple[int, int], padding: tuple[int, int]) -> np.ndarray:
    """(batch, filters, height, width): each output summed up number by number."""
    padded = np.pad(images, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    tops = range(0, padded.shape[2] - filters.shape[2] + 1, stride[0])
    lefts = range(0, padded.shape[3] - filters.shape[3] + 1, stride[1])
    out = np.zeros((len(images), len(filters), len(tops), len(lefts)))
    for (b, image), (f, window), (y, top), (x, left) in itertools.product(
        enumerate(padded), enumerate(filters), enumerate(tops), enumerate(lefts)
    ):
        for c, i, j in np.ndindex(window.shape):
            out[b, f, y, x] += window[c, i, j] * image[c, top + i, left + j]
    return out


def columns(images: np.ndarray, window: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]):
    """(batch * positions, channels * window): the inputs of the lowered linear."""
    padded = np.pad(images, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    tops = range(0, padded.shape[2] - window[0] + 1, stride[0])
    lefts = range(0, padded.shape[3] - window[1] + 1, stride[1])
    return np.array([
        image[:, top : top + window[0], left : left + window[1]].ravel()
        for image in padded for top in tops for left in lefts
    ])  # fmt: skip


@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (3, 2)])
@pytest.mark.parametrize("padding", [(0, 0), (1, 0), (2, 1)])
def test_lowered_convolution(stride, padding):
    rng = np.random.default_rng(0)
    images, filters = rng.integers(-9, 9, (2, 2, 6, 5)), rng.integers(-9, 9, (3, 2, 3, 2))
    kept = rng.random((3, 12)) < 0.6
    one = convolution(stride=stride, padding=padding, kept=kept)
    linear = one.lowered()
    inputs = columns(images, one.window, stride, padding)
    assert inputs.shape == (one.tokens(batch=2), linear.in_features)
    matrix = filters.reshape(linear.out_features, linear.in_features) * linear.weights.mask().to_dense()
    expected = direct(images, matrix.reshape(filters.shape), stride, padding)
    assert np.array_equal((inputs @ matrix.T).reshape(2, -1, 3).transpose(0, 2, 1), expected.reshape(2, 3, -1))


def test_lowered_keeps_the_mask():
    kept = np.ones((3, 12), dtype=bool)
    kept[:, ::2] = False
    linear = convolution(kept=kept).lowered()
    assert (linear.weights.nnz, linear.sparsity) == (18, 0.5)


def test_window_larger_than_its_image():
    with pytest.raises(UserError, match="filter of height 9 does not fit an input of 8"):
        convolution(window=(9, 2))
    assert convolution(window=(8, 5), stride=(1, 1)).positions == 1


def test_a_shape_has_no_mask():
    with pytest.raises(AssertionError):
        convolution().lowered().weights.mask()
