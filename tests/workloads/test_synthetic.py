"""Generators: exact counts, the same masks whatever the order, and positions that favour nothing."""

import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.errors import UserError
from workloads.layers import Layer
from workloads.mask import PackedMask
from workloads.patterns import NofM
from workloads.synthetic import generate, keep_exactly, n_of_m, stream

FEW = settings(max_examples=40, deadline=None)
LAYERS = [
    Layer("b.0.q_proj", "q", 0, 64, 128), Layer("b.0.down_proj", "down", 0, 48, 160),
    Layer("b.1.q_proj", "q", 1, 64, 128), Layer("b.1.down_proj", "down", 1, 48, 160),
]  # fmt: skip
PATTERNS = ["unstructured", "block", "row-skewed", "column-skewed", "2:4", "8:16"]


def masks(pattern: str, density: float = 0.5, seed: int = 0, layers: list[Layer] = LAYERS, **more) -> dict:
    return {layer.name: mask.to_dense() for layer, mask in generate(layers, pattern, density, seed, **more)}


def one(pattern: str, rows: int, cols: int, density: float, seed: int = 0) -> np.ndarray:
    return masks(pattern, density, seed, [Layer("x", "q", 0, rows, cols)])["x"]


def chi_square_is_plausible(counts: np.ndarray, expected: np.ndarray | float, variance: np.ndarray | float) -> bool:
    """Whether sum (counts - expected)^2 / variance is within six standard deviations of its mean, the cell count."""
    statistic = float(((counts - expected) ** 2 / variance).sum())
    return abs(statistic - counts.size) < 6 * math.sqrt(2 * counts.size)


@FEW
@given(st.integers(1, 70), st.integers(1, 200), st.floats(0, 1), st.integers(0, 2**32))
def test_exactly_as_many_as_asked(rows: int, cols: int, share: float, seed: int) -> None:
    kept = int(share * rows * cols)
    mask = keep_exactly(np.random.default_rng(seed), rows, cols, kept)
    assert mask.shape == (rows, cols)
    assert mask.to_dense().sum() == kept


@pytest.mark.parametrize("kept", [0, 1, 2, 4949, 4950, 4951, 9898, 9899, 9900])
def test_exact_counts_at_the_ends(kept: int) -> None:
    assert keep_exactly(stream(0, "x"), 100, 99, kept).to_dense().sum() == kept


@pytest.mark.parametrize("density", [0.001, 0.25, 1 / 3, 0.5, 0.873, 0.9999, 1.0])
def test_unstructured_density(density: float) -> None:
    assert abs(one("unstructured", 61, 131, density).sum() - 61 * 131 * density) <= 0.5


@pytest.mark.parametrize("density", [0.3, 1 / 512, 0.77])
def test_every_position_is_as_likely(density: float) -> None:
    """How often each of 20 x 70 positions is kept, over 400 masks (density 1/512 lives on the flips alone)."""
    kept, n, rounds = round(1400 * density), 1400, 400
    counts = np.zeros((20, 70))
    for seed in range(rounds):
        counts += keep_exactly(stream(seed, "x"), 20, 70, kept).to_dense()
    p = kept / n
    assert counts.sum() == rounds * kept
    assert chi_square_is_plausible(counts, rounds * p, rounds * p * (1 - p))


def test_neighbours_are_independent() -> None:
    """Pairs of bits, along rows, along columns and a word apart, agree as often as chance has it."""
    dense = one("unstructured", 512, 1024, 0.5)
    for left, right in [(dense[:, :-1], dense[:, 1:]), (dense[:-1], dense[1:]), (dense[:, :-64], dense[:, 64:])]:
        agree = (left == right).mean()
        assert abs(agree - 0.5) < 6 * 0.5 / math.sqrt(left.size)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_masks_depend_on_name_and_seed_alone(pattern: str) -> None:
    first = masks(pattern)
    for again in (masks(pattern), masks(pattern, layers=LAYERS[::-1]), masks(pattern, layers=LAYERS[2:3])):
        assert all(np.array_equal(first[name], dense) for name, dense in again.items())
    other = masks(pattern, seed=1)
    assert all(not np.array_equal(first[name], other[name]) for name in first)
    assert not np.array_equal(first["b.0.q_proj"], first["b.1.q_proj"])


def test_layers_come_in_order_with_their_shapes() -> None:
    found = list(generate(iter(LAYERS), "unstructured", 0.5, 0))
    assert [layer for layer, _ in found] == LAYERS
    assert all(isinstance(mask, PackedMask) and mask.shape == layer.shape for layer, mask in found)


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (1, 4), (3, 8), (7, 8), (8, 16), (5, 32), (31, 64)])
def test_n_of_m_keeps_exactly_n_everywhere(n: int, m: int) -> None:
    runs = one(f"{n}:{m}", 9, 192, 0.5).reshape(-1, m)
    assert set(runs.sum(axis=1)) == {n}


@pytest.mark.parametrize("pattern", [NofM(2, 4), NofM(1, 3), NofM(8, 16)], ids=str)
def test_choices_of_n_of_m_are_as_likely(pattern: NofM) -> None:
    """Every position, and where they are few every choice of n positions."""
    n_runs = 40_000
    runs = n_of_m(stream(3, "x"), n_runs // 10, 10 * pattern.m, pattern).to_dense().reshape(n_runs, pattern.m)
    p = pattern.n / pattern.m
    assert np.abs(runs.mean(axis=0) - p).max() < 6 * math.sqrt(p * (1 - p) / n_runs)
    if pattern.m < 8:
        found = Counter(tuple(np.flatnonzero(run)) for run in runs)
        assert set(found) == set(combinations(range(pattern.m), pattern.n))
        share = 1 / len(found)
        spread = 6 * math.sqrt(share * (1 - share) / n_runs)
        assert all(abs(count / n_runs - share) < spread for count in found.values())


@pytest.mark.parametrize(("rows", "cols"), [(64, 128), (50, 135), (5, 3)])
def test_blocks_are_whole(rows: int, cols: int) -> None:
    dense = one("block", rows, cols, 0.4)
    blocks = [dense[r : r + 16, c : c + 16] for r in range(0, rows, 16) for c in range(0, cols, 16)]
    assert all(block.all() or not block.any() for block in blocks)
    assert abs(sum(block.any() for block in blocks) - 0.4 * len(blocks)) <= 0.5


@pytest.mark.parametrize(("pattern", "axis"), [("row-skewed", 1), ("column-skewed", 0)])
def test_skew_spreads_one_axis_and_not_the_other(pattern: str, axis: int) -> None:
    dense = one(pattern, 600, 600, 0.4)
    assert dense.mean() == pytest.approx(0.4, abs=0.005)
    skewed = np.sort(dense.mean(axis=axis))
    even = dense.mean(axis=1 - axis)
    # uniform over 0.2 .. 0.6: standard deviation 0.4 / sqrt(12) = 0.115; the other axis has sampling noise only
    assert skewed.std() == pytest.approx(0.4 / math.sqrt(12), abs=0.01)
    assert even.std() < 0.03
    assert np.allclose(skewed, np.linspace(0.2, 0.6, 600), atol=0.06)
    assert np.abs(np.corrcoef(dense.mean(axis=axis), np.arange(600))[0, 1]) < 0.25  # and in no order


@pytest.mark.parametrize("pattern", ["unstructured", "row-skewed"])
def test_density_per_role(pattern: str) -> None:
    found = masks(pattern, 0.25, role_density={"down": 0.6})
    assert [dense.mean() for dense in found.values()] == pytest.approx([0.25, 0.6, 0.25, 0.6], abs=0.02)


@pytest.mark.parametrize(
    ("pattern", "density", "roles", "message"),
    [
        ("random", 0.5, None, r"unknown pattern 'random'; use unstructured, block, .* or N:M such as 2:4"),
        ("4:2", 0.5, None, r"4:2 is not possible: needs 1 <= N < M <= 64"), ("0:4", 0.5, None, "0:4 is not possible"),
        ("2:65", 0.5, None, "2:65 is not possible"), ("a:b", 0.5, None, "unknown pattern 'a:b'"),
        ("3:7", 0.5, None, r"b.0.q_proj: pattern 3:7 needs in_features divisible by 7, not 128; choose"),
        ("unstructured", 0, None, r"density of q is a fraction in \(0, 1\], not 0;"),
        ("unstructured", 1.01, None, "not 1.01;"), ("unstructured", -0.5, None, "not -0.5;"),
        ("unstructured", math.nan, None, "not nan;"), ("unstructured", 50, None, "not 50;"),
        ("unstructured", 0.5, {"down": 2}, "density of down is .* not 2;"),
        ("unstructured", 0.5, {"down": "high"}, "density of down is .* not 'high';"),
        ("unstructured", 0.5, {"gate": 0.5}, "unknown role 'gate'; this model has: q down"),
        ("2:4", 0.5, {"down": 0.3}, "pattern 2:4 keeps 0.5 of every role; leave role densities out"),
    ],
)  # fmt: skip
def test_impossible_requests_fail_before_the_first_mask(
    pattern: str, density: float, roles: dict, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        generate(LAYERS, pattern, density, 0, roles)
    assert "\n" not in str(caught.value)
