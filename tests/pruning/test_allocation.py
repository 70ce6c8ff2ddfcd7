"""Allocators against closed forms, hand-made numbers and slow twins; the laws of balance by hypothesis."""

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.allocations import ALLOCATIONS, AllocationJob, LayerSparsities, depth, er, find_allocation
from pruning.allocations.balance import CAP, balance, spread
from pruning.run.layer_sparsities import to_the_weight
from tests.pruning.allocation_jobs import (
    GQA,
    MOE,
    ONE_BLOCK,
    SHAPES,
    allocate,
    job_of,
    matrices_of,
    mean_of,
    slow_balance,
)
from workloads.errors import UserError
from workloads.layers import Layer
from workloads.patterns import NofM


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("sparsity", [0, 0.01, 0.3, 0.7, 0.9, 0.95])
@pytest.mark.parametrize("name", ALLOCATIONS)
def test_the_mean_over_weights_is_exact_and_every_share_in_bounds(name: str, sparsity: float, shapes: str) -> None:
    job = job_of(matrices_of(SHAPES[shapes]), sparsity)
    sparsities = allocate(name, job)
    assert list(sparsities.sparsity) == [layer.name for layer in job.layers]
    assert sparsities.patterns is None
    assert all(0 <= s <= CAP for s in sparsities.sparsity.values())  # false for NaN
    assert mean_of(job, sparsities) == pytest.approx(sparsity, rel=1e-9, abs=1e-12)
    if name == "alpha":
        per_matrix = allocate(name, job, granularity="layer", estimator="alpha_mid")
        assert mean_of(job, per_matrix) == pytest.approx(sparsity, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", ["owl", "alpha", "depth"])
def test_one_block_and_equal_blocks_get_the_target(name: str) -> None:
    one = job_of(matrices_of(ONE_BLOCK), 0.6)
    assert list(allocate(name, one).sparsity.values()) == pytest.approx([0.6] * 4, rel=1e-12)
    _, weight, norm = matrices_of(ONE_BLOCK)[0]
    same = job_of([(Layer(f"b{block}", "q", block, 24, 24), weight, norm) for block in range(3)], 0.6)
    if name != "depth":
        assert list(allocate(name, same).sparsity.values()) == pytest.approx([0.6] * 3, rel=1e-12)


@pytest.mark.parametrize("name", ALLOCATIONS)
@pytest.mark.parametrize("shapes", ["gqa", "moe"])
def test_threads_change_no_bit(name: str, shapes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = []
    for threads in ("1", "3"):
        monkeypatch.setenv("PRUNESIM_THREADS", threads)
        answers.append(allocate(name, job_of(matrices_of(SHAPES[shapes]), 0.7)))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("name", ALLOCATIONS)
def test_targets_above_the_cap_are_refused_before_anything_runs(name: str) -> None:
    def never() -> Iterator:
        raise AssertionError("nothing may be loaded")

    layers = job_of(matrices_of(GQA), 0.96).layers
    with pytest.raises(UserError, match=r"0\.95 .*cannot be 0\.96"):
        allocate(name, AllocationJob(layers, 0.96, None, never, never))
    if name != "owl":
        with pytest.raises(UserError, match="no N:M form, the target is 2:4"):
            allocate(name, AllocationJob(layers, 0.5, NofM(2, 4), never, never))


@pytest.mark.parametrize("name", ["owl", "alpha"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_named(name: str, bad: float) -> None:
    matrices = matrices_of(GQA)
    matrices[7][1][3, 5] = bad
    with pytest.raises(UserError, match=f"{matrices[7][0].name}: weights .*NaN or Inf"):
        allocate(name, job_of(matrices, 0.5))


@pytest.mark.parametrize("name", ["owl", "alpha"])
def test_a_model_of_zeros_gets_the_target(name: str) -> None:
    zeros = [(layer, torch.zeros_like(weight), norm) for layer, weight, norm in matrices_of(GQA)]
    assert list(allocate(name, job_of(zeros, 0.4)).sparsity.values()) == pytest.approx([0.4] * len(zeros))


def test_the_table_names_what_it_does_not_know() -> None:
    assert find_allocation("owl").needs_calibration
    assert not any(ALLOCATIONS[name].needs_calibration for name in ("er", "erk", "alpha", "depth"))
    assert find_allocation("owl")().facts == {
        "allocator": "owl",
        "m": 5.0,
        "lam": 0.08,
        "lam_nm": 2.0,
    }
    with pytest.raises(UserError, match="unknown allocation 'alhpa'; did you mean 'alpha'"):
        find_allocation("alhpa")


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [("owl", "m", 0), ("owl", "lam", -0.1), ("alpha", "eps", 1), ("depth", "d", 0.2), ("er", "c", 1)],
)
def test_parameters_out_of_range_are_refused(name: str, key: str, value: float) -> None:
    with pytest.raises(UserError, match=key):
        ALLOCATIONS[name].with_settings({key: value})


SIZED = st.lists(st.tuples(st.floats(-3, 3), st.integers(1, 10**6)), min_size=1, max_size=12)
TARGET = st.floats(0, CAP)


@given(SIZED, TARGET)
@settings(max_examples=150, deadline=None)
def test_balance_equals_its_exact_twin(sized: list[tuple[float, int]], sparsity: float) -> None:
    raw, sizes = zip(*sized, strict=True)
    found = balance(np.array(raw), np.array(sizes, float), sparsity)
    np.testing.assert_allclose(found, slow_balance(raw, sizes, sparsity), rtol=0, atol=1e-9)


@given(SIZED, TARGET, st.floats(-2, 2))
@settings(max_examples=150, deadline=None)
def test_laws_of_balance(sized: list[tuple[float, int]], sparsity: float, shift: float) -> None:
    raw, sizes = np.array([r for r, _ in sized]), np.array([n for _, n in sized], float)
    found = balance(raw, sizes, sparsity)
    assert ((found >= 0) & (found <= CAP)).all()
    assert math.isclose(found @ sizes, sparsity * sizes.sum(), rel_tol=1e-9, abs_tol=1e-9 * sizes.sum())
    order = np.argsort(raw, kind="stable")
    assert (np.diff(found[order]) >= 0).all()  # who asked for more never gets less
    np.testing.assert_allclose(balance(raw + shift, sizes, sparsity), found, atol=1e-9)  # only differences count
    np.testing.assert_allclose(balance(found, sizes, sparsity), found, atol=1e-9)  # what fits stays
    assert (balance(raw, sizes, min(sparsity + 0.01, CAP)) >= found - 1e-9).all()  # a higher target takes from nobody


def test_spread_maps_onto_zero_to_one_and_equal_scores_to_zero() -> None:
    assert spread([3, 7, 5]).tolist() == [0, 1, 0.5]
    assert spread([2.5]).tolist() == [0]
    assert spread([0.0, 0.0]).tolist() == [0, 0]
    assert spread([0.1 + 0.2, 0.3]).tolist() == [0, 0]  # rounding is no difference


def test_er_without_overflow_is_its_formula() -> None:
    """density * size = c (o + n), so that c is what may be kept over the sum of all sides."""
    found = er.densities([(100, 100), (100, 400), (100, 100)], 0.5)
    c = 0.5 * 60_000 / (200 + 500 + 200)
    np.testing.assert_allclose(found, [c * 200 / 10_000, c * 500 / 40_000, c * 200 / 10_000], rtol=1e-12)


def test_er_keeps_matrices_dense_that_would_exceed_one_and_shares_the_rest() -> None:
    """(10, 10) and (40, 40) would get 100 and 25 times the density of (1000, 1000): dense; the last takes the rest."""
    shapes = [(10, 10), (40, 40), (1000, 1000)]
    found = er.densities(shapes, 0.8)
    budget = 0.2 * (100 + 1600 + 1_000_000)
    np.testing.assert_allclose(found, [1, 1, (budget - 1700) / 1_000_000], rtol=1e-12)
    layers = [Layer(str(n), "q", 0, *shape) for n, shape in enumerate(shapes)]
    job = AllocationJob(layers, 0.8, None, lambda: iter([]), lambda: iter([]))
    assert list(allocate("erk", job).sparsity.values()) == pytest.approx([0, 0, 1 - found[2]], abs=1e-12)
    assert allocate("er", job) == allocate("erk", job)


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, 500)), min_size=1, max_size=10), st.floats(0, 0.99))
@settings(max_examples=100, deadline=None)
def test_er_equals_water_filling(shapes: list[tuple[int, int]], sparsity: float) -> None:
    """min(1, c (o + n) / (o n)) with c found by bisection on the whole sum, never naming the dense ones."""
    budget = (1 - sparsity) * sum(rows * cols for rows, cols in shapes)
    low, high = 0.0, 500.0
    for _ in range(200):
        c = (low + high) / 2
        kept = sum(min(rows * cols, c * (rows + cols)) for rows, cols in shapes)
        low, high = (c, high) if kept < budget else (low, c)
    expected = [min(1, high * (rows + cols) / (rows * cols)) for rows, cols in shapes]
    np.testing.assert_allclose(er.densities(shapes, sparsity), expected, rtol=1e-6, atol=1e-9)


def test_depth_is_a_ramp_from_below_to_above_the_target() -> None:
    job = job_of(matrices_of(GQA), 0.6)
    sparsity = allocate("depth", job, d=0.1).sparsity
    for layer in job.layers:
        assert sparsity[layer.name] == pytest.approx([0.5, 0.6, 0.7][layer.block], rel=1e-9)
    uneven = allocate("depth", job_of(matrices_of(MOE), 0.6), d=0.1).sparsity
    first, last = uneven["blocks.0.q.0"], uneven["blocks.1.q.4"]
    assert last - first == pytest.approx(0.2)  # the ramp keeps its height, all of it shifts to the exact mean
    assert depth.Depth().d == 0.05


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000)), min_size=1, max_size=30),
)
@settings(max_examples=50, deadline=None)
def test_shares_become_whole_numbers_that_add_up_to_one_weight(asked: list[tuple[int, int, int]]) -> None:
    layers = [Layer(str(n), "q", 0, rows, cols) for n, (rows, cols, _) in enumerate(asked)]
    shares = LayerSparsities({layer.name: s / 1000 for layer, (_, _, s) in zip(layers, asked, strict=True)})
    made, total, due = to_the_weight(shares, layers).sparsity, 0, Fraction(0)
    for layer, (rows, cols, s) in zip(layers, asked, strict=True):
        count = made[layer.name] * layer.n_weights
        assert count == pytest.approx(round(count), abs=1e-6)
        total, due = total + round(count), due + Fraction(s, 1000) * rows * cols
        assert total == math.floor(due)
        assert abs(round(count) - Fraction(s, 1000) * rows * cols) < 1
