import pytest

from reports.present import MISSING, cell, speedup_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.0, "2.00x"), (1.0, "1.00x"), (1.236, "1.24x"), (12.34, "12.3x"), (123.4, "123x"), (1234.5, "1,234x"),
        (0.87, "0.87x (slower)"), (0.0456, "0.046x (slower)"), (0.0, "0.000x (slower)"),
        # Rounding must not turn a slowdown into break-even, nor a trickle into nothing.
        (0.996, "0.996x (slower)"), (0.99996, "0.99996x (slower)"), (0.0001, "0.0001x (slower)"),
    ],
)  # fmt: skip
def test_speedups(value, text):
    assert speedup_text(value) == text


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("sparsity", 0.5, "50.0"), ("sparsity", 0.0, "0.0"), ("sparsity", 1.0, "100.0"),
        ("sparsity", 0.9998, "99.98"), ("sparsity", 0.0002, "0.02"),
        ("cycles", 1234567, "1,234,567"), ("mean_cycles", 12.5, "12.5"),
        ("perplexity", 27.654, "27.65"), ("perplexity", 1234567.0, "1.23e+06"), ("perplexity", float("inf"), "inf"),
        ("speedup", float("nan"), MISSING), ("model", "", MISSING), ("feasible", False, "no"),
    ],
)  # fmt: skip
def test_cells(column, value, text):
    assert cell(column, value).text == text


def test_only_speedups_below_one_are_marked():
    assert cell("speedup", 0.999).slower
    assert not cell("speedup", 1.0).slower
    assert not cell("sparsity", 0.5).slower
