"""What masks tell of themselves: N:M, polarity, how much is pruned."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from workloads.errors import UserError
from workloads.layers import Layer
from workloads.mask import PackedMask
from workloads.patterns import RUNS
from workloads.survey import Survey, check_pruned, polarity, runs_of


def n_of_m(rows: int, cols: int, n: int, m: int, seed: int = 0) -> np.ndarray:
    """Exactly n of every m, at random."""
    order = np.random.default_rng(seed).random((rows, cols // m, m)).argsort(axis=2)
    return (order < n).reshape(rows, cols)


def unstructured(rows: int, cols: int, density: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((rows, cols)) < density


def survey_of(*masks: np.ndarray, told: bool = False) -> Survey:
    survey = Survey()
    for number, mask in enumerate(masks):
        survey.add(Layer(f"layers.{number}.q", "q", number, *mask.shape), PackedMask.from_dense(mask), told)
    return survey


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(bool, st.tuples(st.integers(1, 5), st.integers(2, 200))))
def test_runs_are_counted_as_a_loop_counts_them(dense: np.ndarray) -> None:
    mask = PackedMask.from_dense(dense)
    for runs, flipped in ((runs_of(mask), False), (runs_of(mask.complement()), True)):
        source = ~dense if flipped else dense
        for m, pair in zip(RUNS, runs.extremes, strict=True):
            if dense.shape[1] % m or dense.shape[1] < 2 * m:
                assert pair is None
                continue
            counts = source.reshape(len(source), -1, m).sum(axis=2)
            assert pair == (counts.max(), counts.min())
    assert runs_of(mask).complement() == runs_of(mask.complement())
    assert np.array_equal(mask.complement().to_dense(), ~dense)
    assert np.array_equal(mask.transposed().to_dense(), dense.T)


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (1, 4), (3, 4), (4, 8), (2, 8), (8, 16), (16, 32), (5, 32)])
def test_patterns_are_found(n: int, m: int) -> None:
    """The shortest runs count: 2:4 is 4:8 as well and is called 2:4."""
    masks = [n_of_m(64, 128, n, m, seed) for seed in range(3)]
    assert str(survey_of(*masks).pattern()) == f"{n}:{m}"


def test_a_pattern_with_a_few_more_zeros_is_still_one() -> None:
    mask = n_of_m(64, 128, 2, 4)
    mask[0, :40] = False
    assert str(survey_of(mask).pattern()) == "2:4"


@pytest.mark.parametrize("density", [0.5, 0.3, 0.05, 0.01, 0.9])
def test_unstructured_masks_are_no_pattern(density: float) -> None:
    """At 1 % hardly any run of four keeps two, which makes it no 1:4 or 2:4."""
    assert survey_of(unstructured(64, 128, density)).pattern() is None


def test_rows_of_one_run_are_no_pattern() -> None:
    """A rule that keeps half of every row would else be 32:64, or 16:32."""
    mask = n_of_m(64, 32, 16, 32)
    assert survey_of(mask).pattern() is None


def test_widths_that_no_run_divides_and_mixtures() -> None:
    assert survey_of(n_of_m(4, 128, 2, 4)[:, :126]).pattern() is None
    mixed = survey_of(n_of_m(64, 128, 2, 4), unstructured(64, 128, 0.5))
    assert mixed.pattern() is None
    assert [str(mixed.pattern_of(fact)) for fact in mixed.facts] == ["2:4", "None"]


def test_polarity() -> None:
    """What can be told: N:M that holds one way only, or prunes the larger part. A density and exact halves tell
    nothing."""
    fewer = n_of_m(64, 128, 2, 4)
    fewer[0, :8] = False
    assert polarity(survey_of(fewer)) == "kept"
    assert polarity(survey_of(~fewer)) == "pruned"
    assert polarity(survey_of(n_of_m(64, 128, 1, 4))) == "kept"
    assert polarity(survey_of(n_of_m(64, 128, 3, 4))) == "pruned"
    for mask in (n_of_m(64, 128, 2, 4), *(unstructured(64, 128, density) for density in (0.5, 0.2, 0.8))):
        assert polarity(survey_of(mask)) == polarity(survey_of(~mask)) == "open"


def test_a_square_pattern_along_the_outputs_is_noticed() -> None:
    square = n_of_m(64, 64, 2, 4)
    assert survey_of(square).across() is None
    assert str(survey_of(square.T).across()) == "2:4"
    assert survey_of(unstructured(64, 64, 0.5)).across() is None


def test_nothing_and_everything_pruned() -> None:
    ones, zeros = np.ones((8, 16), bool), np.zeros((8, 16), bool)
    with pytest.raises(UserError, match="0 of 128 weights are zero, so nothing is pruned: a dense checkpoint"):
        check_pruned(survey_of(ones, told=True), "here", False)
    check_pruned(survey_of(ones, told=True), "here", True)
    with pytest.raises(UserError, match=r"masks that keep everything.*`allow_dense=True`.*`pruned_is_one=True`"):
        check_pruned(survey_of(ones), "here", False)
    with pytest.raises(UserError, match=r"all 128 weights are pruned.*`pruned_is_one=True`"):
        check_pruned(survey_of(zeros), "here", True)
    few = np.ones((100, 100), bool)
    few[0, :9] = False  # 0.09 %, what a dense checkpoint of half precision may hold by chance
    with pytest.raises(UserError, match="9 of 10,000 weights are zero"):
        check_pruned(survey_of(few, told=True), "here", False)
    few[0, :10] = False
    check_pruned(survey_of(few, told=True), "here", False)


def test_layers_that_were_left_dense_do_not_count() -> None:
    """2:4 in some layers only is 2:4, at the sparsity of those."""
    survey = survey_of(n_of_m(64, 128, 2, 4), np.ones((64, 128), bool))
    assert str(survey.pattern()) == "2:4"
    assert (survey.sparsity, survey.treated_sparsity) == (0.25, 0.5)
    assert [fact.dense for fact in survey.facts] == [False, True]
