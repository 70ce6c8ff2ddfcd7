"""What is said of a speedup that its error does not tell from 1.0, of one that is extrapolated, and of one that does
not exist."""

import pandas as pd
import pytest

from reports.figures.phases import Bar
from reports.sections.gains import gains
from reports.tables.layers import headline_table, layer_table
from reports.tables.sums import checked, sums
from reports.words.present import cells
from tests.reports.samples import frame, kernel, row


def whole(*rows: dict) -> pd.DataFrame:
    return headline_table(frame(list(rows)))


@pytest.mark.parametrize(
    ("us", "said", "worse"),
    [
        (110.0, "0.91x (not distinguishable)", False),  # 1 / 1.1 x 1.2 > 1
        (95.0, "1.05x (not distinguishable)", False),  # 1.05 < 1.2
        (130.0, "0.77x (slower)", True),  # 0.77 x 1.2 = 0.92
        (50.0, "2.00x", False),
    ],
)
def test_inside_the_error_band_nothing_is_called_slower(us, said, worse):
    table = whole(kernel(100.0, us, speedup_error_p90=0.2))
    ((cell,),) = cells(table, ["speedup"])
    assert (cell.text, cell.worse) == (said, worse)
    ((sentence, warns),) = gains(table)
    assert ("not distinguishable" in sentence) == ("not distinguishable" in said)
    assert warns == worse


def test_extrapolated_layers_are_counted_and_named():
    table = whole(
        kernel(100.0, 50.0, extrapolated="m 1 below 64"), kernel(100.0, 50.0, layer="layers.0.up", role="up", nnz=10)
    )
    assert table["extrapolated_layers"].tolist() == [1]
    ((sentence, _),) = gains(table)
    assert "1 of 2 layer results are extrapolated" in sentence


def test_without_a_dense_baseline_the_speedup_is_words():
    bare = {"dense_cycles": None, "dense_compute_cycles": None, "speedup": None, "reason": "dense does not fit"}
    rows = frame([row(100, 50), {**row(100, 60, layer="layers.0.up", role="up"), **bare}])
    found = sums(checked(rows))
    assert (found["layers"], found["no_baseline_layers"], found["cycles"]) == (2, 1, 110)
    assert [line[0].text for line in cells(headline_table(rows), ["speedup"])] == ["baseline does not fit"]
    assert [line[0].text for line in cells(layer_table(rows), ["speedup"])] == ["2.00x", "baseline does not fit"]


def test_bars_of_a_phase_figure_say_slower_only_beyond_the_error():
    """The 2:4 bar against its own type by the speedup's error; another type's by both times' errors, (1 + a)(1 + b) -
    1."""
    dense = Bar(64, "fp16", False, "dense fp16", 100.0, error=0.1)
    for latency_us, said in (
        (106.0, "not distinguishable"),
        (94.0, "not distinguishable"),
        (112.0, "slower"),
        (80.0, ""),
    ):
        assert Bar(64, "fp16", True, "2:4 fp16", latency_us, error=0.5, speedup_error=0.1).against(dense) == said
    for latency_us, said in ((120.0, "not distinguishable"), (122.0, "slower"), (80.0, "")):  # 1.1 * 1.1 = 1.21
        assert Bar(64, "fp8", False, "dense fp8", latency_us, error=0.1).against(dense) == said
    measured = Bar(64, "fp16", False, "dense fp16", 100.0)
    for latency_us, said in ((101.0, "slower"), (99.0, ""), (100.0, "")):
        assert Bar(64, "fp16", True, "2:4 fp16", latency_us).against(measured) == said


def test_a_method_at_several_sparsities_is_named_with_each():
    """Also where another sparsity of it stands among the others; an N:M pattern has its sparsity in its name."""
    slow = {"method": "cfsp", "pattern": "smaller"}
    table = whole(
        row(100, 110, **slow, target_sparsity=0.2),
        row(100, 105, **slow, target_sparsity=0.3),
        row(100, 50, **slow, target_sparsity=0.5),
        row(100, 125, method="wanda", pattern="2:4", target_sparsity=0.5),
        row(100, 80, method="wanda", pattern="unstructured", target_sparsity=0.625),
        row(100, 200, method="flap", pattern="smaller", target_sparsity=0.5),
    )
    ((sentence, _),) = gains(table)
    assert (
        "slower than dense: cfsp smaller 20 % 0.91x, cfsp smaller 30 % 0.95x, wanda 2:4 0.80x, flap smaller 0.50x;"
        in (sentence)
    )
    once = whole(row(100, 110, **slow, target_sparsity=0.2), *(row(100, 50, method=m) for m in ("a", "b")))
    assert "slower than dense: cfsp smaller 0.91x;" in gains(once)[0][0]


def test_a_pattern_of_a_method_has_its_sparsity_beside_another_pattern():
    table = whole(
        row(100, 125, method="wanda", pattern="2:4", target_sparsity=0.5),
        row(100, 160, method="wanda", pattern="unstructured", target_sparsity=0.625),
        row(100, 50, method="flap", pattern="smaller", target_sparsity=None),
    )
    assert "slower than dense: wanda 2:4 0.80x, wanda unstructured 62.5 % 0.62x;" in gains(table)[0][0]
