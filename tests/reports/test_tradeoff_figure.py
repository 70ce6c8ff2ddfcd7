"""Perplexity against speedup: which points are drawn, and which of them are on the front."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.figures.tradeoff import tradeoff_figure, tradeoffs_of
from reports.tables.layers import headline_table
from reports.tables.tradeoff import on_front, tradeoffs
from reports.write import write_report
from tests.reports.samples import dense, frame, measured, quality_frame, row, svg_bytes


def made(method: str, target: float | str, cycles: int, **others) -> dict:
    pattern, asked = (target, 0.5) if isinstance(target, str) else ("unstructured", target)
    return row(100, cycles, **{"method": method, "pattern": pattern, "target_sparsity": asked, **others})


ROWS = [made("a", 0.5, 50), made("a", 0.7, 40), made("b", 0.5, 50), made("b", "2:4", 25), made("c", 0.5, 125)]
PERPLEXITIES = [
    dense(10.0), measured("a", 0.5, 12.0), measured("a", 0.7, 30.0), measured("b", 0.5, 11.0), measured("b", "2:4",
    20.0),
    measured("c", 0.5, 10.0),
]  # fmt: skip


def points_of(rows: list[dict], perplexities: list[dict]) -> pd.DataFrame:
    return tradeoffs(headline_table(frame(rows), quality_frame(*perplexities)))


def test_points_and_their_front():
    """Speedups 2, 2.5, 2, 4 and 0.8. "a" at 50 % is as fast as "b" and worse, at 70 % slower and worse than "b" 2:4;
    "c" is as good as the dense model and slower."""
    points = points_of(ROWS, PERPLEXITIES)
    shown = points[["method", "target_name", "speedup", "perplexity", "front"]]
    assert list(shown.itertuples(index=False, name=None)) == [
        ("a", "50 %", 2.0, 12.0, False), ("a", "70 %", 2.5, 30.0, False), ("b", "50 %", 2.0, 11.0, True), ("b", "2:4",
        4.0, 20.0, True),
        ("c", "50 %", 0.8, 10.0, False), ("dense", "", 1.0, 10.0, True),
    ]  # fmt: skip


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=12))
def test_the_front_is_what_a_loop_finds(pairs):
    def beaten(me: tuple[int, int]) -> bool:
        return any(fast >= me[0] and lost <= me[1] and (fast, lost) != me for fast, lost in pairs)

    speedup, perplexity = (np.array([pair[n] for pair in pairs], float) for n in (0, 1))
    assert on_front(speedup, perplexity).tolist() == [not beaten(pair) for pair in pairs]


@pytest.mark.parametrize(
    ("rows", "perplexities"),
    [
        (ROWS, []), (ROWS, PERPLEXITIES[:2]), ([ROWS[0]], PERPLEXITIES),
        (ROWS, [measured("a", 0.5, float("inf")), measured("b", 0.5, None)]),
    ],
    ids=["no perplexity", "one perplexity", "one method", "none finite"],
)  # fmt: skip
def test_without_two_points_there_is_nothing_to_draw(rows, perplexities):
    points = points_of(rows, perplexities)
    assert points.empty
    assert list(tradeoffs_of(points)) == []


def test_without_the_dense_perplexity_the_others_are_compared():
    points = points_of(ROWS, PERPLEXITIES[1:])
    assert "dense" not in set(points["method"])
    assert points["front"].sum() == 3


def drawn(points: pd.DataFrame) -> list:
    return [(model, tradeoff_figure(model, points, panels)) for model, panels in tradeoffs_of(points)]


@pytest.mark.filterwarnings("error")
def test_a_panel_a_configuration_six_to_a_figure():
    many = [{**line, "tokens": tokens} for tokens in range(1, 9) for line in ROWS]
    figures = drawn(points_of(many, PERPLEXITIES))
    assert [model for model, _ in figures] == ["tiny", "tiny"]
    assert [sum(axes.get_visible() for axes in figure.axes) for _, figure in figures] == [6, 2]


@pytest.mark.filterwarnings("error")
def test_odd_names_and_many_methods():
    rows = [made(f"$m_{n}$<b>" * 4, 0.5, 50 + n) for n in range(30)]
    worse = [measured(f"$m_{n}$<b>" * 4, 0.5, 10.0**n) for n in range(30)]
    ((_, figure),) = drawn(points_of(rows, worse))
    looks = {(line.get_marker(), line.get_markeredgecolor()) for line in figure.legends[0].legend_handles}
    assert len(looks) == 30
    assert b"<svg" in svg_bytes(figure)


def test_the_report_holds_figure_and_numbers(tmp_path):
    files = write_report(frame(ROWS), quality_frame(*PERPLEXITIES), tmp_path, "T", [])
    assert "figures/tiny-tradeoff.svg" in files
    assert pd.read_csv(files["tradeoff.csv"])["front"].tolist() == [False, False, True, True, False, True]
    assert "Perplexity against speedup" in files["report.html"].read_text()
    assert "figures/tiny-tradeoff.svg" in files["report.md"].read_text()
