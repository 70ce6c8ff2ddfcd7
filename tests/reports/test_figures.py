import xml.etree.ElementTree as ET

import pytest

from reports.figures.bars import bars_figure, energy_figure
from reports.figures.drawing import safe
from reports.figures.layers import heatmap_figure
from reports.tables.parts import part_table
from reports.tables.sums import checked
from tests.reports.samples import barred, frame, powered, row, svg_bytes, two_layers, two_powered
from workloads.layers import ROLES

FIGURES = [bars_figure, energy_figure, heatmap_figure]


def many(blocks: int, roles=ROLES[:7]) -> list[dict]:
    return [
        row(100 + b, 90 + 10 * r, layer=f"{b}.{role}", block=b, role=role)
        for b in range(blocks)
        for r, role in enumerate(roles)
    ]


def texts(figure) -> list[str]:
    # Laying it out makes matplotlib set the tick labels.
    svg_bytes(figure)
    return [t.get_text() for axes in figure.axes for t in [*axes.texts, axes.title, *axes.get_yticklabels()]]


@pytest.mark.parametrize("draw", FIGURES)
@pytest.mark.parametrize(
    "rows",
    [
        [row(100, 50)], two_layers(), many(32), [barred()], [*two_layers(), barred()], many(2, ROLES),
        [r for m in "abcdefghij" for r in two_layers(method=m)], [row(100, 50, block=-1)],
        [row(100, 50, nnz=0, sparsity=1.0)], [row(100, 100, method="dense", pattern="", nnz=40, sparsity=0.0)],
    ],
    ids=["one layer", "two", "224 layers", "all barred", "some barred", "all roles", "ten methods", "outside blocks",
         "nothing kept", "nothing pruned"],
)  # fmt: skip
def test_every_figure_copes(draw, rows):
    root = ET.fromstring(svg_bytes(draw(frame(rows))))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize("draw", FIGURES)
def test_the_same_rows_give_the_same_bytes(draw):
    rows = frame([*two_powered(), *two_powered(method="magnitude"), barred()])
    first, again = draw(rows), draw(rows)
    assert svg_bytes(first) == svg_bytes(again)
    assert svg_bytes(draw(frame([powered(row(100, 51), 900, 1, 1, 1, 1, 1), *two_powered()[1:]]))) != svg_bytes(first)


@pytest.mark.parametrize("draw", FIGURES)
def test_a_name_is_text_in_a_figure_never_markup_and_never_a_formula(draw):
    name = "<script>alert(1)</script> $\\frac{$ ]]> --> \x00"
    svg = svg_bytes(draw(frame(two_layers(model=name, method=name, target=name))))
    ET.fromstring(svg)
    assert b"<script" not in svg


def test_control_letters_and_dollars_are_made_safe():
    assert safe("a\x00b$c") == "a b\\$c"
    assert len(safe("x" * 1000, width=20)) <= 62


def parts_of(table, run: str) -> dict[str, float]:
    mine = table[table["run"] == run]
    return dict(zip(mine["part"], mine["amount"], strict=True))


def test_parts_add_up_to_the_mean_cycles_of_the_role_and_dense_is_split_like_the_others():
    rows = [row(400, 200, stall=50, ideal=100), row(400, 400, stall=150, ideal=200, layer="b", block=1)]
    table = part_table(checked(frame(rows)))
    assert parts_of(table, "wanda 2:4") == {"ideal compute": 150, "imbalance": 50, "DRAM stall": 100}
    # Half of the weights are kept: ideal cycles unpruned are 200 and 400, of which 350 and 250 can be compute.
    assert parts_of(table, "dense") == {"ideal compute": 225, "imbalance": 75, "DRAM stall": 100}
    assert len(bars_figure(frame(rows)).axes[0].patches) == 6


def test_waiting_for_buffers_is_a_part_of_its_own_where_there_is_any():
    plain = row(400, 400, stall=150, ideal=200)
    some = {**plain, "buffer_stall_cycles": 60, "bound": "buffer"}
    found = {}
    for name, made in (("none", plain), ("some", some), ("zero", {**plain, "buffer_stall_cycles": 0})):
        labels = [t.get_text() for t in bars_figure(frame([made])).legends[0].get_texts()]
        assert ("buffer stall" in labels) == (name == "some")
        found[name] = parts_of(part_table(checked(frame([made]))), "wanda 2:4")
    assert found["none"] == found["zero"] == {"ideal compute": 200, "imbalance": 50, "DRAM stall": 150}
    assert found["some"] == {"ideal compute": 200, "imbalance": 50, "DRAM stall": 90, "buffer stall": 60}


def test_energy_bars_stack_to_the_mean_energy_in_the_unit_on_the_axis():
    rows = [
        powered(row(100, 50), 9e6, 1e6, 0, 2e6, 1e6, 2e6),
        powered(row(100, 50, layer="b", block=1), 5e6, 3e6, 0, 0, 1e6, 0),
    ]
    figure = energy_figure(frame(rows))
    dense, *parts = figure.axes[0].patches
    assert dense.get_width() == 7
    assert [p.get_width() for p in parts] == [2, 1, 1, 1]  # no idle slots, no bar
    assert "(µJ)" in figure.axes[0].get_xlabel()
    assert "1.40x" in texts(figure)  # 14 / 10


def test_energy_bars_mark_what_takes_more_than_dense_and_what_is_not_known():
    rows = [powered(row(100, 50), 90, 100, 0, 0, 0, 0), row(100, 50, layer="u", role="up")]
    shown = texts(energy_figure(frame(rows)))
    assert "0.90x (more energy)" in shown
    assert "cannot run" in shown


def test_bars_name_slowdowns_and_what_cannot_run():
    rows = [row(87, 100), barred(), row(10, 5, layer="u0", role="up"), barred(layer="u1", role="up", block=1)]
    shown = texts(bars_figure(frame(rows)))
    assert "0.87x (slower)" in shown
    assert "cannot run" in shown
    assert "2.00x (1 of 2 layers)" in shown


def test_heat_map_is_centred_at_one_and_counts_slowdowns():
    figure = heatmap_figure(frame([row(50, 100), row(400, 100, layer="u", role="up"), barred()]))
    mesh = figure.axes[0].collections[0]
    assert mesh.norm.vmin == -mesh.norm.vmax == -2.0
    assert mesh.get_array().compressed().tolist() == [-1.0, 2.0]
    assert "1 of 2 slower than dense, 1\ncannot run" in figure.axes[0].get_title()


def test_what_must_not_be_compared_is_not_drawn_together():
    with pytest.raises(ValueError, match="one configuration"):
        bars_figure(frame([*two_layers(), *two_layers(tokens=2)]))
    for other in ({"settings": "array.rows=8"}, {"activation_density": 0.5}):
        with pytest.raises(ValueError, match="one configuration"):
            heatmap_figure(frame([*two_layers(), *two_layers(**other)]))
