"""The engine against a clock that steps, in both buffer modes; closed forms; repeated passes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engine import Stream, once, run
from validation.twins.clock import stepped_clock

TILE = st.tuples(st.integers(0, 12), st.integers(0, 12), st.sampled_from([0, 0, 1, 4, 9]))
both = pytest.mark.parametrize("double", [True, False], ids=["double", "single"])


def columns_of(tiles: list[tuple[int, int, int]]) -> list[np.ndarray]:
    return [np.array([tile[k] for tile in tiles], dtype=np.int64) for k in range(3)]


@both
@settings(max_examples=300, deadline=None)
@given(tiles=st.lists(TILE, min_size=1, max_size=14))
def test_equals_a_stepped_clock(double, tiles):
    columns = columns_of(tiles)
    assert run(once(*columns), double) == stepped_clock(*(column.tolist() for column in columns), double)


@both
@settings(max_examples=200, deadline=None)
@given(tiles=st.lists(TILE, min_size=1, max_size=6), times=st.integers(1, 30), rest=st.lists(TILE, max_size=4))
def test_repeated_passes_are_added_up_exactly(double, tiles, times, rest):
    """A steady pass is not walked again; the total must be that of walking every one of them."""
    n, end = len(tiles), len(tiles) + len(rest)
    stream = Stream(*columns_of(tiles + rest), np.array([[0, n, times], [n, end, 1]], dtype=np.int64))
    whole = columns_of(tiles * times + rest)
    assert run(stream, double) == stepped_clock(*(column.tolist() for column in whole), double)
    assert stream.steps == n * times + len(rest)


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.integers(0, 2**40), min_size=1, max_size=9),
    passes=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 7)), max_size=5),
)
def test_total_is_the_sum_over_passes_and_repetitions(values, passes):
    n = len(values)
    bounds = [(min(a, b, n), min(max(a, b), n), times) for a, b, times in passes]
    column = np.array(values, dtype=np.int64)
    stream = Stream(column, column, column, np.array(bounds, dtype=np.int64).reshape(-1, 3))
    assert stream.total(column) == sum(sum(values[a:b]) * times for a, b, times in bounds)
    assert stream.steps == sum((b - a) * times for a, b, times in bounds)


@settings(max_examples=100, deadline=None)
@given(tiles=st.lists(TILE, min_size=1, max_size=14))
def test_single_buffers_do_one_thing_at_a_time(tiles):
    """So that the whole is the sum; double buffers are never slower, and never faster than their busiest part."""
    columns = columns_of(tiles)
    load, compute, store = (int(column.sum()) for column in columns)
    assert run(once(*columns), double=False) == load + compute + store
    assert max(load + store, compute) <= run(once(*columns), double=True) <= load + compute + store


def test_double_buffering_closed_forms():
    tiles = 10
    short, long, none = np.full(tiles, 5), np.full(tiles, 20), np.zeros(tiles, dtype=np.int64)
    assert run(once(short, long, none), double=True) == 5 + 200  # compute bound: only the first load is seen
    assert run(once(long, short, none), double=True) == 200 + 5  # memory bound: only the last compute is seen


@pytest.mark.parametrize(("third_load_starts", "double"), [(2 + 50, True), (2 + 50 + 1 + 50, False)])
def test_a_load_waits_for_its_half_of_the_buffer(third_load_starts, double):
    """Loads of 2, 1, 3 cycles, computes of 50: the third finds no free half before the first (single: the second) is
    done."""
    load, compute, none = np.array([2, 1, 3]), np.full(3, 50), np.zeros(3, dtype=np.int64)
    second_done = 2 + 50 + 50 if double else 2 + 50 + 1 + 50
    assert run(once(load, compute, none), double) == max(third_load_starts + 3, second_done) + 50


@pytest.mark.parametrize(("last_compute", "a_pass"), [(3, 12), (4, 13)])
def test_a_billion_passes_are_a_multiplication(last_compute, a_pass):
    """The port is busy for 3 + 7 + 2 cycles a pass, if the store finds its tile computed after the next pass's first
    load."""
    load, compute, store = np.array([3, 7]), np.array([3, last_compute]), np.array([0, 2])
    few, many, more = (
        run(Stream(load, compute, store, np.array([[0, 2, times]], dtype=np.int64)), True)
        for times in (10, 10**9, 10**9 + 1)
    )
    assert more - many == a_pass
    assert many - few == a_pass * (10**9 - 10)
