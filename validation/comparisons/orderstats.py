"""Distributions of counts of random masks as plain arrays: probability of 0, 1, 2, ... in order."""

import numpy as np
from scipy.stats import binom


def binomial(n: int, p: float) -> np.ndarray:
    return binom.pmf(np.arange(n + 1), n, p)


def mapped(pmf: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Of to[count]: whole numbers from 0."""
    return np.bincount(to, weights=pmf)


def rounds(pmf: np.ndarray, size: int) -> np.ndarray:
    """Of ceil(count / size)."""
    return mapped(pmf, -(-np.arange(len(pmf)) // size))


def at_least(pmf: np.ndarray, least: int) -> np.ndarray:
    """Of max(count, least)."""
    return mapped(pmf, np.maximum(np.arange(len(pmf)), least))


def summed(pmf: np.ndarray, times: int) -> np.ndarray:
    """Of the sum of `times` independent ones."""
    result, square = np.ones(1), pmf
    while times:
        if times & 1:
            result = np.convolve(result, square)
        square, times = np.convolve(square, square), times >> 1
    return result


def largest(pmf: np.ndarray, draws: int) -> np.ndarray:
    """Of the largest of `draws` independent ones."""
    return np.diff(np.minimum(np.cumsum(pmf), 1.0) ** draws, prepend=0.0)


def mean(pmf: np.ndarray) -> float:
    return float(pmf @ np.arange(len(pmf)) / pmf.sum())


def deviation(pmf: np.ndarray) -> float:
    square = float(pmf @ np.arange(len(pmf)) ** 2 / pmf.sum())
    return max(0.0, square - mean(pmf) ** 2) ** 0.5
