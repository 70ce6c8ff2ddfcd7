import xml.etree.ElementTree as ET

import numpy as np
import pytest

from reports.figures.quality import quality_figure
from reports.tables.quality import perplexity_table
from tests.reports.samples import dense, measured, quality_frame, svg_bytes


def many(methods: int, bits: int | None = None) -> list[dict]:
    return [
        measured(f"m{n}" + (", quantized" if bits else ""), target, 10.0 + n + seed, seed, weight_bits=bits)
        for n in range(methods)
        for target in (0.5, 0.6, 0.7, "2:4")
        for seed in range(3)
    ]


def figure_of(*rows: dict):
    return quality_figure(perplexity_table(quality_frame(*rows)))


def legend_of(figure) -> dict[str, object]:
    (legend,) = figure.legends
    return dict(zip((t.get_text() for t in legend.get_texts()), legend.legend_handles, strict=True))


@pytest.mark.parametrize(
    "rows",
    [
        [measured("a", 0.5, 20.0), measured("b", 0.5, 21.0)],
        [measured("a", "2:4", 20.0), measured("b", "2:4", 20.0)],
        [
            measured("a", 0.0, 20.0, weight_bits=4),
            measured("b", None, 21.0, target_sparsity=None, pattern="unstructured"),
        ],
        [dense(10.0), *many(6), *many(6, 4)],
        many(30),
        [dense(10.0), measured("a", 0.5, 1e304), measured("b", 0.5, 11.0), measured("c", 0.5, 12.0)],
        [measured("a", 0.5, float("inf")), measured("b", 0.5, 11.0)],
        [measured("a", 0.5, None), measured("b", 0.5, None)],
        [measured("$a_b$<script>\x00", 0.5, 20.0), measured("b", 0.5, 21.0)],
    ],
    ids=["one target", "one pattern", "others", "twelve", "thirty", "diverged", "infinite", "unknown", "odd name"],
)
@pytest.mark.filterwarnings("error")
def test_the_figure_copes(rows):
    svg = svg_bytes(figure_of(*rows))
    assert ET.fromstring(svg).tag.endswith("svg")
    assert b"<script" not in svg
    assert svg == svg_bytes(figure_of(*rows))


def test_twelve_methods_are_told_apart_and_quantized_ones_take_after_theirs():
    shown = legend_of(figure_of(dense(10.0), *many(6), *many(6, 4)))
    looks = {name: (line.get_color(), line.get_marker()) for name, line in shown.items()}
    assert len(set(looks.values())) == 13
    for n in range(6):
        assert looks[f"m{n}"][0] == looks[f"m{n}, quantized"][0]
        assert shown[f"m{n}, quantized"].get_linestyle() == "--"
    assert len({colour for colour, _ in looks.values()}) == 7
    assert "dense: 10.00" in shown


def test_marks_are_means_and_bars_reach_from_the_lowest_to_the_highest_seed():
    rows = [measured("a", 0.5, value, seed) for seed, value in enumerate((10.0, 11.0, 15.0))]
    axes = figure_of(*rows, measured("b", 0.5, 12.0)).axes[0]
    mark, _, (bar,) = axes.containers[0]
    assert mark.get_ydata().tolist() == [12]
    assert bar.get_segments()[0][:, 1].tolist() == [10, 15]


def test_a_wide_range_is_drawn_on_a_log_axis_a_narrow_one_is_not():
    assert figure_of(measured("a", 0.5, 10.0), measured("b", 0.5, 12.0)).axes[0].get_yscale() == "linear"
    assert figure_of(measured("a", 0.5, 10.0), measured("b", 0.5, 90.0)).axes[0].get_yscale() == "log"


def test_what_diverged_is_named_and_does_not_press_the_others_flat():
    figure = figure_of(dense(10.0), *many(3), measured("far", 0.7, 1.2e6))
    assert "far 70 % 1.20e+06" in figure.legends[0].get_title().get_text()
    assert figure.axes[0].get_ylim()[1] < 100
    at_the_edge = [line for line in figure.axes[0].lines if np.array_equal(line.get_ydata(), [0.985])]
    assert len(at_the_edge) == 1


def test_two_evaluations_never_share_a_figure():
    with pytest.raises(ValueError, match="one evaluation"):
        figure_of(measured("a", 0.5, 10.0), measured("a", 0.5, 10.0, text="b.txt"))
