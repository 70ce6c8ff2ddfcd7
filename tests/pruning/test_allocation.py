"""Allocators against closed forms, hand-made numbers and slow twins; the laws of balance by hypothesis."""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.allocations import ALLOCATIONS, AllocationJob, LayerSparsities, depth, er, find_allocation, owl
from pruning.allocations.balance import CAP, balance, spread
from pruning.run.layer_sparsities import to_the_weight
from workloads.errors import UserError
from workloads.layers import Layer
from workloads.patterns import NofM

Matrix = tuple[Layer, torch.Tensor, torch.Tensor | None]

# (block, role, out, in): grouped-query attention; experts in the second block only, so that block sizes differ.
ATTENTION = [("q", 24, 24), ("k", 8, 24), ("v", 8, 24), ("o", 24, 24)]
GQA = [(block, *shape) for block in range(3) for shape in [*ATTENTION, ("up", 40, 24), ("down", 24, 40)]]
MOE = [
    *[(block, *shape) for block in range(2) for shape in ATTENTION],
    *[(1, f"expert_{kind}", 16, 24) for kind in ("gate", "up") for _ in range(4)],
]
ONE_BLOCK = [(0, *shape) for shape in ATTENTION]
SHAPES = {"gqa": GQA, "moe": MOE, "one block": ONE_BLOCK, "one matrix": [(0, "q", 16, 8)]}


def matrices_of(shapes: Sequence[tuple[int, str, int, int]], seed: int = 0) -> list[Matrix]:
    """Heavy-tailed random weights; every fifth matrix was reached by no token."""
    draw = torch.Generator().manual_seed(seed)
    made: list[Matrix] = []
    for n, (block, role, rows, cols) in enumerate(shapes):
        weight = torch.randn(rows, cols, generator=draw) ** (1 + 2 * (n % 3))
        norm = torch.rand(cols, generator=draw) ** 4 * 10
        made.append(
            (Layer(f"blocks.{block}.{role}.{n}", role, block, rows, cols), weight, None if n % 5 == 4 else norm)
        )
    return made


def job_of(matrices: Sequence[Matrix], sparsity: float, pattern: NofM | None = None) -> AllocationJob:
    return AllocationJob(
        [layer for layer, _, _ in matrices], sparsity, pattern,
        lambda: ((layer, weight) for layer, weight, _ in matrices), lambda: iter(matrices),
    )  # fmt: skip


def allocate(name: str, job: AllocationJob, **settings: object) -> LayerSparsities:
    return ALLOCATIONS[name].with_settings(settings).allocate(job)


def mean_of(job: AllocationJob, sparsities: LayerSparsities) -> float:
    """Of all weights, in exact arithmetic."""
    pruned = sum(Fraction(sparsities.sparsity[layer.name]) * layer.n_weights for layer in job.layers)
    return float(pruned / sum(layer.n_weights for layer in job.layers))


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


def slow_balance(raw: Sequence[float], sizes: Sequence[int], sparsity: float) -> list[float]:
    """Between neighbouring shifts at which some matrix enters or leaves a bound, the sum is a line: solve that."""

    def at(shift: Fraction) -> list[Fraction]:
        return [min(max(Fraction(r) + shift, Fraction(0)), Fraction(CAP)) for r in raw]

    def pruned(shift: Fraction) -> Fraction:
        return sum((n * s for n, s in zip(sizes, at(shift), strict=True)), Fraction(0))

    total = Fraction(sparsity) * sum(sizes)
    shifts = sorted({bound - Fraction(r) for r in raw for bound in (Fraction(0), Fraction(CAP))})
    for low, high in pairwise(shifts):
        if pruned(low) <= total <= pruned(high):
            rise = pruned(high) - pruned(low)
            shift = low + (high - low) * (total - pruned(low)) / rise if rise else low
            return [float(s) for s in at(shift)]
    raise AssertionError("no shift")


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


def toy(block: int, outliers: int, cols: int = 5) -> list[Matrix]:
    """Two (2, cols) matrices of scores 1, but for `outliers` of 100: |W| = 2 at norm 0.5, and |W| = 1 without norm."""
    layers = [Layer(f"{block}.{name}", name, block, 2, cols) for name in ("q", "up")]
    scaled, plain = torch.full(layers[0].shape, -2.0), torch.ones(layers[1].shape)
    scaled.view(-1)[:outliers] = -200.0
    return [(layers[0], scaled, torch.full((cols,), 0.5)), (layers[1], plain, None)]


def test_owl_by_hand() -> None:
    """k of 20 scores are 100: mean = 1 + 4.95 k, five times that is 29.75, 54.5, 128.75 for k = 1, 2, 5.
    D = 1/20, 2/20, 0; r = (0.08, 0.16, 0), mean 0.08: s = 0.7, 0.62, 0.78."""
    job = job_of([*toy(0, 1), *toy(1, 2), *toy(2, 5)], 0.7)
    assert dict(owl.outlier_ratios(job, 5)) == {0: 1 / 20, 1: 2 / 20, 2: 0}
    sparsity = allocate("owl", job).sparsity
    assert sparsity == pytest.approx(
        {"0.q": 0.7, "0.up": 0.7, "1.q": 0.62, "1.up": 0.62, "2.q": 0.78, "2.up": 0.78}, rel=1e-9
    )


def test_owl_replaces_what_is_not_positive_and_keeps_the_mean() -> None:
    """0.05, -0.03, 0.13 become 0.05, 0.01, 0.13, 0.04 too much: all go down by t = 0.015, the second to 0."""
    job = job_of([*toy(0, 1), *toy(1, 2), *toy(2, 5)], 0.05)
    sparsity = allocate("owl", job).sparsity
    assert [sparsity[f"{block}.q"] for block in range(3)] == pytest.approx([0.035, 0, 0.115], abs=1e-12)


def slow_ratio(matrices: Sequence[Matrix], m: float) -> float:
    scores = []
    for layer, weight, norm in matrices:
        for r in range(layer.out_features):
            for j in range(layer.in_features):
                scores.append(abs(float(weight[r, j])) * (1.0 if norm is None else float(norm[j])))
    threshold = m * math.fsum(scores) / len(scores)
    return sum(score > threshold for score in scores) / len(scores)


@pytest.mark.parametrize("shapes", ["gqa", "moe"])
@pytest.mark.parametrize("m", [2, 5])
def test_owl_equals_its_slow_twin(shapes: str, m: float) -> None:
    matrices = matrices_of(SHAPES[shapes], seed=3)
    job = job_of(matrices, 0.6)
    blocks = sorted({layer.block for layer in job.layers})
    ratios = [slow_ratio([matrix for matrix in matrices if matrix[0].block == block], m) for block in blocks]
    assert list(owl.outlier_ratios(job, m)) == list(zip(blocks, ratios, strict=True))
    r = [(d - min(ratios)) / (max(ratios) - min(ratios)) * 2 * 0.1 for d in ratios]
    raw = [0.6 - (r[blocks.index(layer.block)] - sum(r) / len(r)) for layer in job.layers]
    expected = slow_balance(raw, [layer.n_weights for layer in job.layers], 0.6)
    found = allocate("owl", job, m=m, lam=0.1).sparsity
    assert list(found.values()) == pytest.approx(expected, abs=1e-9)
    assert max(found.values()) - min(found.values()) == pytest.approx(0.2)  # the whole band is used


def test_owl_keeps_one_block_at_a_time() -> None:
    asked = []

    def scored() -> Iterator[Matrix]:
        for matrix in [*toy(0, 1), *toy(1, 2)]:
            asked.append(matrix[0].block)
            yield matrix

    job = job_of([*toy(0, 1), *toy(1, 2)], 0.7)
    ratios = owl.outlier_ratios(AllocationJob(job.layers, 0.7, None, job.weights, scored), 5)
    assert next(ratios)[0] == 0
    assert asked == [0, 0]  # block 1 is not loaded while the matrices of block 0 are held


def test_owl_patterns_by_hand() -> None:
    """1, 2 and 7 of 32 scores are 100: five times their mean is 20.5, 35.9, 113.3. D = 1/32, 2/32, 0, so that
    r' - mean is 0, 1, -1 and the deltas are 0, 2 (for 1), -1."""
    job = job_of([*toy(0, 1, 8), *toy(1, 2, 8), *toy(2, 7, 8)], 5 / 8, NofM(3, 8))
    found = allocate("owl", job)
    assert found.patterns is not None
    assert {name: str(pattern) for name, pattern in found.patterns.items()} == {
        "0.q": "3:8", "0.up": "3:8", "1.q": "5:8", "1.up": "5:8", "2.q": "2:8", "2.up": "2:8",
    }  # fmt: skip
    assert found.sparsity == {name: pattern.sparsity for name, pattern in found.patterns.items()}
    one = allocate("owl", job_of(toy(0, 1, 8), 0.5, NofM(2, 4)))
    assert one.patterns == {"0.q": NofM(2, 4), "0.up": NofM(2, 4)}


def test_owl_kept_counts_stay_patterns() -> None:
    assert owl.kept_counts(np.array([-2.0, -0.6, 0.4, 0.6, 1.4, 2.0]), NofM(2, 4)) == [1, 1, 2, 3, 3, 3]
    assert owl.kept_counts(np.array([-2.0, -0.6, 0.4, 0.6, 1.4, 2.0]), NofM(8, 16)) == [6, 7, 8, 10, 10, 10]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
@settings(max_examples=200, deadline=None)
def test_owl_patterns_miss_the_target_by_no_more_than_documented(scores: list[float]) -> None:
    band = spread(scores)
    missed = np.mean(owl.kept_counts(2 * (band - band.mean()), NofM(32, 64))) - 32
    assert -0.5 <= missed <= 1.25


def test_owl_patterns_of_evenly_spread_and_of_two_valued_scores() -> None:
    assert np.mean(owl.kept_counts(np.linspace(-1, 1, 1000), NofM(3, 8))) == pytest.approx(3.25, abs=0.01)
    two_values = np.array([-1.48] * 26 + [0.52] * 74)  # nearly the worst case: 26 deltas of -1, 74 of 2
    assert np.mean(owl.kept_counts(two_values, NofM(3, 8))) == pytest.approx(3 + 1.22)


def of_spectrum(eigenvalues: np.ndarray, rows: int, block: int = 0, seed: int = 0) -> Matrix:
    """A (rows, cols) matrix whose squared singular values are the given ones, its factors random and orthonormal."""
    cols = len(eigenvalues)
    draw = torch.Generator().manual_seed(seed)
    left, _ = torch.linalg.qr(torch.randn(rows, cols, generator=draw, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(cols, cols, generator=draw, dtype=torch.float64))
    weight = left * torch.from_numpy(np.sqrt(eigenvalues)) @ right.T
    return Layer(f"{block}.{seed}", "q", block, rows, cols), weight.float(), None


def geometric(step: float, count: int) -> np.ndarray:
    return np.exp(step * np.arange(count))


def test_alpha_allocates_linearly_between_the_bounds() -> None:
    """Exponents 1 + 2 / (step (n-1)), n = 10 of 20: 3.22, 2.11, 1.56 for steps 0.1, 0.2, 0.4; 40, 20, 30 rows."""
    steps, rows = (0.1, 0.2, 0.4), (40, 20, 30)
    matrices = [
        of_spectrum(geometric(step, 20), r, block) for block, (step, r) in enumerate(zip(steps, rows, strict=True))
    ]
    exponents = [1 + 2 / (step * 9) for step in steps]
    q = [0.8 + (a - min(exponents)) / (max(exponents) - min(exponents)) * 0.4 for a in exponents]
    assert q[1] == pytest.approx(0.8 + 0.4 / 3)
    scale = 0.6 * sum(rows) / sum(r * share for r, share in zip(rows, q, strict=True))
    found = allocate("alpha", job_of(matrices, 0.6), eps=0.2, estimator="alpha_mid").sparsity
    assert list(found.values()) == pytest.approx([scale * share for share in q], rel=1e-4)


def test_alpha_averages_over_a_block_or_takes_every_matrix() -> None:
    """Blocks {0.1, 0.2}, {0.4, zeros}, {zeros}: means 2.67, 1.56, and the mean of both for the last."""
    layout = [(0, 0.1), (0, 0.2), (1, 0.4), (1, None), (2, None)]
    matrices = [
        of_spectrum(geometric(step, 20) if step else np.zeros(20), 20, block, seed=n)
        for n, (block, step) in enumerate(layout)
    ]
    job = job_of(matrices, 0.5)
    by_block = list(allocate("alpha", job, eps=0.2, estimator="alpha_mid").sparsity.values())
    scale = 0.5 * 5 / (1.2 * 2 + 0.8 * 2 + 1.0)
    assert by_block == pytest.approx([scale * q for q in (1.2, 1.2, 0.8, 0.8, 1.0)], rel=1e-4)
    by_layer = list(allocate("alpha", job, eps=0.2, estimator="alpha_mid", granularity="layer").sparsity.values())
    middle = 0.8 + 0.4 * (sum((1 + 2 / 0.9, 1 + 1 / 0.9, 1 + 0.5 / 0.9)) / 3 - 1 - 0.5 / 0.9) / (1.5 / 0.9)
    q = [1.2, 0.8 + 0.4 / 3, 0.8, middle, middle]
    assert by_layer == pytest.approx([0.5 * 5 / sum(q) * share for share in q], rel=1e-4)


def test_alpha_beyond_the_cap_is_capped_at_the_exact_mean() -> None:
    matrices = [of_spectrum(geometric(step, 20), 20, block) for block, step in enumerate((0.1, 0.2, 0.4))]
    job = job_of(matrices, 0.9)
    found = allocate("alpha", job, eps=0.4)
    assert max(found.sparsity.values()) == CAP
    assert mean_of(job, found) == pytest.approx(0.9, rel=1e-9)


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
