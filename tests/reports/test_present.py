import math

import pandas as pd
import pytest

from reports.words.headings import heading, spans
from reports.words.present import MISSING, cell, cells, filled, speedup_text


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
    assert cell("speedup", 0.999).worse
    assert not cell("speedup", 1.0).worse
    assert not cell("sparsity", 0.5).worse


@pytest.mark.parametrize(
    ("column", "value", "spread", "text"),
    [
        ("perplexity", 17.034, 0.2149, "17.03 ± 0.21"), ("perplexity", 17.0, 0.0, "17.00 ± 0"),
        ("perplexity", 17.0, 0.004, "17.00 ± <0.01"), ("perplexity", 17.0, math.nan, "17.00"),
        ("perplexity", 3.33e303, 5.77e303, "3.33e+303 ± 5.77e+303"), ("perplexity", math.nan, 1.0, MISSING),
        ("speedup", 1.344, 0.026, "1.34x ± 0.03"), ("speedup", 0.87, 0.02, "0.87x ± 0.02 (slower)"),
        ("mean_cycles", 12.5, 0.24, "12.5 ± 0.2"), ("cycles", 20000.0, 0.01, "20,000 ± <0.1"),
    ],
)  # fmt: skip
def test_spreads_stand_behind_their_values_and_are_never_rounded_to_none(column, value, spread, text):
    assert cell(column, value, spread).text == text
    table = pd.DataFrame({column: [value], f"{column}_spread": [spread]})
    assert next(cells(table, [column]))[0].text == text


def test_more_energy_and_a_higher_energy_delay_product_are_marked_like_slowdowns():
    assert cell("energy_ratio", 0.9).text == "0.90x (more energy)"
    assert cell("energy_ratio", 0.9, 0.04).text == "0.90x ± 0.04 (more energy)"
    assert cell("edp_ratio", 0.9996).text == "0.9996x (higher EDP)"
    assert cell("energy_ratio", 0.9).worse
    assert not cell("energy_ratio", 1.0).worse
    assert cell("published_speedup", 0.9).text == "0.90x"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234.5, "1,234"), (12.34, "12.3"), (1.0, "1.00"), (0.01234, "0.0123"), (1.24e-6, "1.2e-06")],
)
def test_quantities_have_three_digits(value, text):
    assert cell("area_mm2", value).text == text


def test_a_unit_stands_in_the_heading():
    assert heading("dram_pj").flat == "DRAM (pJ)"
    assert heading("dram_mj").flat == "DRAM (mJ)"
    assert heading("edp_uj_us").flat == "EDP (µJ µs)"
    assert heading("latency_ms").flat == "Latency (ms)"


def test_waiting_for_buffers_and_dense_activations_need_no_column():
    table = pd.DataFrame({"buffer_stall_share": [0.0, None], "activation_density": [1.0, 1.0], "settings": ["", ""]})
    assert filled(table, table.columns) == []
    table.loc[0] = [0.1, 0.5, "a.b=1"]
    assert filled(table, table.columns) == list(table.columns)


def test_a_column_of_a_method_stands_below_its_name():
    head = heading("a@b@mean_cycles")
    assert (head.group, head.text, head.flat, head.printed) == ("a@b", "cycles", "a@b cycles", "amount")
    assert heading("50 %@target_perplexity").flat == "50 %"
    assert heading("mean_cycles").flat == "Cycles per layer"


def test_groups_span_their_columns_and_single_ones_need_no_second_row():
    heads = [heading(c) for c in ("role", "shapes", "a@speedup", "a@sparsity", "b@speedup", "b@sparsity")]
    assert spans(heads) == [("", 1), ("", 1), ("a", 2), ("b", 2)]
    assert spans([heading(c) for c in ("method", "50 %@target_perplexity", "2:4@target_perplexity")]) == []
    assert spans([]) == []


def test_one_seed_everywhere_is_not_worth_a_column():
    assert filled(pd.DataFrame({"seeds": [1, 1]}), ["seeds"]) == []
    assert filled(pd.DataFrame({"seeds": [1, 3]}), ["seeds"]) == ["seeds"]
