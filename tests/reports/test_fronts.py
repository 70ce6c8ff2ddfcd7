"""Pareto fronts and hypervolumes: closed forms, a slow twin that counts cells, laws."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.tables.fronts import covered, exclusive, hypervolume, nondominated, scaled

SIDE = 5  # of the lattice on which the twin counts
LATTICE = st.integers(1, 4).flatmap(
    lambda d: st.lists(st.lists(st.integers(0, SIDE), min_size=d, max_size=d), min_size=1, max_size=7)
)


def cells(points: np.ndarray) -> int:
    """How many unit cells below (SIDE, SIDE, ...) any point dominates."""
    d = points.shape[1]
    return sum(any(all(p <= c for p, c in zip(point, cell, strict=True)) for point in points.tolist())
               for cell in product(range(SIDE), repeat=d))  # fmt: skip


def dominated(points: np.ndarray, place: int) -> bool:
    return any(all(o <= p for o, p in zip(other, points[place], strict=True)) and list(other) != list(points[place])
               for other in points.tolist())  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(LATTICE)
def test_volumes_are_the_cells_that_a_count_finds(lists):
    points = np.array(lists, dtype=float)
    reference = np.full(points.shape[1], float(SIDE))
    assert hypervolume(points, reference) == pytest.approx(cells(points))
    assert covered(points, reference)[-1] == pytest.approx(cells(points))
    others = cells(points[1:]) if len(points) > 1 else 0
    if (points[0] < SIDE).all():
        assert exclusive(points[0], points[1:], reference) == pytest.approx(cells(points) - others)


@settings(deadline=None, max_examples=60)
@given(LATTICE)
def test_fronts_are_what_no_other_dominates(lists):
    points = np.array(lists, dtype=float)
    assert nondominated(points).tolist() == [not dominated(points, place) for place in range(len(points))]


def test_long_lists_have_the_front_of_short_ones():
    points = np.random.default_rng(0).random((700, 3))
    front = nondominated(points)
    assert front.sum() > 10
    assert nondominated(points[front]).all()
    assert all((points[front] <= point).all(axis=1).any() for point in points)


@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_closed_forms(d):
    """One box; two boxes by inclusion and exclusion; nothing below the reference."""
    one, reference = np.full((1, d), 0.25), np.ones(d)
    assert hypervolume(one, reference) == pytest.approx(0.75**d)
    other = np.full((1, d), 0.5)
    other[0, 0] = 0.0
    both = np.vstack([one, other])
    shared = 0.75 * 0.5 ** (d - 1)
    assert hypervolume(both, reference) == pytest.approx(0.75**d + 0.5 ** (d - 1) - shared)
    assert hypervolume(np.ones((3, d)), reference) == 0.0


def test_stairs_reach_half_of_the_square():
    """n points on x + y = 1 cover 1/2 - 1 / (2 (n - 1)) of it: a step less than the triangle."""
    for n in (3, 11, 101):
        x = np.linspace(0, 1, n)
        assert hypervolume(np.stack([x, 1 - x], axis=1), np.ones(2)) == pytest.approx(0.5 - 0.5 / (n - 1))


def test_coverage_grows_and_ends_at_the_whole():
    points = np.random.default_rng(1).random((60, 3))
    points[7] = np.nan
    shares = covered(points, np.ones(3))
    assert (np.diff(shares) >= -1e-12).all()
    assert shares[7] == shares[6]
    assert shares[-1] == pytest.approx(hypervolume(np.delete(points, 7, axis=0), np.ones(3)))


def test_volumes_agree_with_optuna():
    wfg = pytest.importorskip("optuna._hypervolume.wfg")
    draw = np.random.default_rng(2)
    for d in (2, 3, 4):
        points = draw.random((25, d))
        assert hypervolume(points, np.ones(d)) == pytest.approx(wfg.compute_hypervolume(points, np.ones(d)))


def test_an_axis_without_a_span_is_zero():
    points = np.array([[1.0, 5.0], [3.0, 5.0]])
    assert scaled(points, points.min(axis=0), points.max(axis=0)).tolist() == [[0, 0], [1, 0]]
