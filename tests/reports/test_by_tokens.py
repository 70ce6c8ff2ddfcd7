"""Speedup against tokens: where it passes break-even, by hand; the figures of tokens and of phases."""

import itertools
import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import write_report
from reports.figures.by_tokens import tokens_figure
from reports.figures.phases import phase_figure
from reports.tables.by_tokens import crossing_text, crossings, curves, token_tables
from reports.tables.phases import phases_of
from reports.tables.sums import checked
from tests.reports.samples import barred, frame, kernel, page_data, row, svg_bytes, timed


def test_a_crossing_is_interpolated_in_the_logarithm_of_tokens():
    # 0.5 at 1 and 1.5 at 256: half way in log tokens is 16.
    assert crossings([1, 256], [0.5, 1.5]) == [(pytest.approx(16), True)]
    assert crossings([256, 1], [1.5, 0.5]) == [(pytest.approx(16), True)]
    # A quarter of the way from 2 (0.9) to 32 (1.3): 2 * 16 ** 0.25.
    assert crossings([2, 32], [0.9, 1.3]) == [(pytest.approx(4), True)]
    assert crossings([1, 16, 256], [0.5, 1.5, 0.5]) == [(pytest.approx(4), True), (pytest.approx(64), False)]


def test_break_even_itself_is_a_crossing_only_where_it_is_passed():
    assert crossings([1, 2, 4], [0.5, 1.0, 2.0]) == [(2, True)]
    assert crossings([1, 2, 4, 8], [0.5, 1.0, 1.0, 2.0]) == [(2, True)]
    assert crossings([1, 2, 4], [0.5, 1.0, 0.5]) == []
    assert crossings([1, 2], [1.0, 1.0]) == []
    assert crossings([1, 2, 4], [1.0, 1.5, 1.2]) == []
    assert crossings([1, 2, 4], [0.5, float("nan"), 2.0]) == [(pytest.approx(4 ** (1 / 3)), True)]


def test_crossings_in_words():
    assert crossing_text([1, 256], [0.5, 1.5]) == "16"
    assert crossing_text([1, 256], [1.5, 0.5]) == "falls below at 16"
    assert crossing_text([1, 256], [1.5, 1.1]) == "always faster"
    assert crossing_text([1, 256], [0.5, 1.0]) == "never faster"
    assert crossing_text([1, 256], [1.0, 1.0]) == "never faster"
    assert crossing_text([1, 2, 4], [1.5, 1.0, 1.5]) == "touches it"


@given(st.lists(st.floats(0.1, 4), min_size=2, max_size=8))
def test_as_many_crossings_as_changes_of_side(speedups):
    tokens = [2.0**n for n in range(len(speedups))]
    sides = [s > 1 for s in speedups if s != 1]
    found = crossings(tokens, speedups)
    assert len(found) == sum(a != b for a, b in itertools.pairwise(sides))
    assert all(tokens[0] <= where <= tokens[-1] for where, _ in found)


def grown(**others) -> list[dict]:
    """1x at 4 tokens, in two layers of one shape: (60 + 20) / (30 + 10), (60 + 20) / (60 + 20), (60 + 20) / (100 +
    60)."""
    both = [({"layer": "a"}, 60), ({"layer": "b", "block": 1}, 20)]
    own = {1: (100, 60), 4: (60, 20), 16: (30, 10)}
    return [
        kernel(dense, own[t][n], tokens=t, **{**facts, **others}) for t in own for n, (facts, dense) in enumerate(both)
    ]


def test_layers_of_one_shape_are_one_curve():
    lines = curves(checked(frame(grown())))
    assert lines["speedup"].tolist() == [0.5, 1.0, 2.0]
    assert lines["tokens"].tolist() == [1, 4, 16]
    assert lines["layers"].tolist() == [2, 2, 2]
    ((key, table),) = token_tables(lines)
    assert (key["model"], key["method"]) == ("tiny", "wanda")
    line = table.iloc[0]
    assert line["1 token@at_tokens"] == 0.5
    assert line["16 tokens@at_tokens"] == 2.0
    assert (line["crossing"], line["dtype"], line["shapes"]) == ("4", "fp16", "4 x 10")


def test_two_token_counts_make_no_curve():
    assert curves(checked(frame([r for r in grown() if r["tokens"] < 16]))).empty
    assert list(token_tables(curves(checked(frame(grown()[:2]))))) == []


def test_measured_dense_kernels_have_no_curve():
    rows = [timed(name, us, tokens=t) for t in (1, 2, 3) for name, us in (("dense", 100), ("cutlass24", 50))]
    lines = curves(checked(frame(rows)))
    assert lines["speedup"].tolist() == [2.0, 2.0, 2.0]
    ((_, table),) = token_tables(lines)
    assert table["settings"].tolist() == ["kernel=cutlass24 l2=cold"]


def test_accelerators_have_curves_too_and_shapes_that_cannot_run_have_none():
    rows = [row(100, 50 * n, tokens=n) for n in (1, 2, 3)] + [barred(tokens=n) for n in (1, 2, 3)]
    lines = curves(checked(frame(rows)))
    assert lines["speedup"].tolist() == [2.0, 1.0, pytest.approx(2 / 3)]
    assert set(lines["shapes"]) == {"4 x 10"}


def test_the_figure_has_a_panel_a_target_and_marks_crossings():
    rows = [*grown(), *grown(target="h200"), *[row(100, 50 * n, tokens=n) for n in (1, 2, 3)]]
    figure = tokens_figure(curves(checked(frame(rows))), "tiny")
    ET.fromstring(svg_bytes(figure))
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert len(panels) == 3
    named = {axes.get_title().replace(",", " ").split()[0]: axes for axes in panels}
    assert [t.get_text() for t in named["h200"].texts] == ["4"]
    assert [t.get_text() for t in named["vitcod"].texts] == ["2"]
    (band,) = named["h200"].collections
    path = band.get_paths()[0].vertices[:, 1]
    # 2.0 with an error of 0.2: 2 / 1.2 to 2 / 0.8.
    assert path.max() == pytest.approx(2.5)
    assert path.min() == pytest.approx(0.5 / 1.2)


def bars(figure) -> dict[str, list[float]]:
    """Lengths of the bars of each panel."""
    return {
        axes.get_title().split(":")[0]: [round(patch.get_width(), 6) for patch in axes.patches] for axes in figure.axes
    }


def test_phases_hold_every_kernel_against_the_dense_one_of_16_bits():
    rows = [r for t in (64, 65) for r in (
        kernel(100, 50, tokens=t), kernel(40, 20, tokens=t, settings="dtype=int8"),
        kernel(100, 150, tokens=t, layer="b", block=1),
        kernel(60, 20, tokens=t, layer="b", block=1, settings="dtype=int8"),
    )]  # fmt: skip
    ((key, by_count),) = phases_of(checked(frame(rows)))
    figure = phase_figure(key, by_count)
    ET.fromstring(svg_bytes(figure))
    # dense 200, 2:4 200, dense int8 100, 2:4 int8 40
    assert bars(figure) == {"decode": [1, 1, 0.5, 0.2], "prefill": [1, 1, 0.5, 0.2]}
    shown = [t.get_text() for t in figure.axes[0].texts]
    assert shown == ["200 µs", "200 µs, 1.00x", "100 µs, 2.00x", "40.0 µs, 5.00x"]
    assert key["target"] == "a100-pcie"


def test_measured_kernels_have_a_bar_each_and_say_what_cannot_run():
    rows = [timed(name, us) for name, us in (("dense", 100), ("cutlass24", 125), ("int4", 50))]
    rows.append({**timed("fp8", None), "feasible": False, "reason": "too old"})
    ((key, by_count),) = phases_of(checked(frame(rows)))
    figure = phase_figure(key, by_count)
    assert bars(figure) == {"decode": [1, 1.25, 0.5]}
    shown = [t.get_text() for t in figure.axes[0].texts]
    assert "125 µs, 0.80x (slower)" in shown
    assert "cannot run every layer" in shown


def test_a_single_pair_of_bars_is_no_figure():
    assert list(phases_of(checked(frame([kernel(100, 50)])))) == []
    assert list(phases_of(checked(frame([row(100, 50)])))) == []
    dense = [kernel(100, 100, kernel="dense", tokens=t) for t in (1, 2, 3)]
    assert list(phases_of(checked(frame(dense)))) == []


def test_pages_show_both_in_sections_of_their_own(tmp_path):
    written = write_report(frame(grown()), None, tmp_path, "t", [])
    page = written["report.html"].read_text()
    assert "Speedup against tokens" in page
    assert "Decode and prefill" in page
    assert page.count("<img") == 0
    assert list(page_data(page)["charts"]) == ["tiny-wanda-2-4-speedup-by-tokens", "tiny-a100-pcie-predicted-phases"]
    assert "by-tokens.csv" in written
    assert "Speedup against tokens" in written["report.md"].read_text()
    assert not math.isnan(curves(checked(frame(grown())))["speedup"].iloc[0])
