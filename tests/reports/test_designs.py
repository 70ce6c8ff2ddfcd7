"""Sweeps: designs in a table, sorted, with their Pareto fronts."""

import io
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from reports import print_report, write_report
from reports.figures.pareto import pareto_figure
from reports.sections.designs import designs_verdict
from reports.tables.designs import design_tables, pareto, split
from reports.tables.sums import checked
from tests.reports.samples import barred, frame, powered, row, svg_bytes, two_layers


def design(number: int, cycles: int, energy: float, area: float, dense: int = 100, **others) -> dict:
    made = row(dense, cycles, settings=f"dram.channels=2 array.rows={number}", **others)
    return powered(made, 100, energy, 0, 0, 0, 0, area_mm2=area)


# Latency order: 3, 1, 4, 2. Energy front: 3, 1, 2 (4 is slower than 1 and takes more); area front: 3, 4.
FOUR = [design(1, 50, 30, 9), design(2, 80, 10, 9), design(3, 40, 40, 9), design(4, 60, 35, 5)]


def tables(rows: list[dict]) -> list:
    return list(design_tables(checked(frame(rows))))


def test_more_than_three_settings_are_a_sweep():
    three = [r for n in range(3) for r in two_layers(settings=f"a={n}")]
    plain, swept = split(checked(frame(three)))
    assert (len(plain), len(swept)) == (6, 0)
    plain, swept = split(checked(frame([*three, *two_layers(settings="a=3"), *two_layers(target="other")])))
    assert set(plain["target"]) == {"other"}
    assert len(swept) == 8
    # One target at other tokens is another place.
    assert split(checked(frame([*three, *two_layers(settings="a=3", tokens=2)])))[1].empty


def test_designs_are_sorted_by_latency_and_marked_where_none_beats_them():
    ((key, table),) = tables(FOUR)
    assert key["settings"] == "dram.channels=2"
    assert table["design_settings"].tolist() == ["rows=3", "rows=1", "rows=4", "rows=2"]
    assert table["design"].tolist() == [1, 2, 3, 4]
    assert table["front"].tolist() == ["energy and area", "energy", "area", "energy"]
    assert table["latency_us"].tolist() == pytest.approx([0.08, 0.1, 0.12, 0.16])
    assert table["energy_ratio"].tolist() == pytest.approx([2.5, 10 / 3, 100 / 35, 10])
    assert table["edp_pj_us"].tolist() == pytest.approx([3.2, 3.0, 4.2, 1.6])


def test_whole_models_are_compared_not_layers():
    rows = [
        made
        for n, (first, second) in enumerate([(10, 90), (40, 40), (70, 20), (50, 60)])
        for made in (design(n, first, 1, 1), design(n, second, n + 1, 1, layer="u", role="up"))
    ]
    ((_, table),) = tables(rows)
    assert table["cycles"].tolist() == [80, 90, 100, 110]
    assert table["speedup"].tolist() == pytest.approx([200 / c for c in (80, 90, 100, 110)])


def test_designs_that_cannot_run_every_layer_stand_last_and_win_nothing():
    other = {"layer": "layers.0.down", "role": "down"}
    rows = [made for d in FOUR for made in (d, {**d, **other})]
    lame = "dram.channels=2 array.rows=9"
    rows += [design(9, 1, 1, 1), barred(settings=lame)]
    ((_, table),) = tables(rows)
    last = table.iloc[-1]
    assert (last.design_settings, last.reason, last.front, last.infeasible_layers) == ("rows=9", "no room", "", 1)
    assert pd.isna(last.design)
    assert table["front"].tolist()[:4] == ["energy and area", "energy", "area", "energy"]
    said, warns = designs_verdict(table)
    assert said == (
        "5 designs that differ in array.rows; speedup 1.25x to 2.50x; energy ratio 2.50x to 10.0x; fastest: rows=3 "
        "(2.50x over its own dense run); 1 design cannot run every layer"
    )
    assert warns


def test_each_mask_has_its_own_front_and_a_design_one_number():
    rows = [
        {**d, "method": m, "energy_pj": d["energy_pj"] + extra} for m, extra in (("a", 0), ("b", 500)) for d in FOUR
    ]
    ((_, table),) = tables(rows)
    for method in "ab":
        mine = table[table["method"] == method].set_index("design")
        assert mine["front"].to_dict() == {1: "energy and area", 2: "energy", 3: "area", 4: "energy"}


def test_slowdowns_and_more_energy_are_counted():
    rows = [design(1, 200, 200, 9), design(2, 80, 300, 9), design(3, 50, 40, 9), design(4, 60, 30, 5)]
    ((_, table),) = tables(rows)
    said, warns = designs_verdict(table)
    assert "1 of 4 slower than dense; 2 of 4 with more energy than dense" in said
    assert warns


POINTS = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), max_size=14)


@given(POINTS)
def test_a_front_holds_what_no_other_dominates(points):
    latency, cost = (np.array([p[i] for p in points], dtype=np.float64) for i in (0, 1))
    slow = [
        not any(a <= x and b <= y and (a, b) != (x, y) for a, b in points)
        for x, y in points
    ]  # fmt: skip
    assert pareto(latency, cost).tolist() == slow


def test_what_is_not_known_is_on_no_front():
    nan = float("nan")
    assert pareto(np.array([1.0, nan, 2.0, 0.5]), np.array([5.0, 1.0, 4.0, nan])).tolist() == [True, False, True, False]
    assert pareto(np.array([]), np.array([])).tolist() == []


def test_where_nothing_is_traded_there_is_no_front_and_no_empty_picture():
    for rows in (
        [row(100, n, settings=f"a={n}") for n in (10, 20, 30, 40)],
        [barred(settings=f"a={n}") for n in range(4)],
    ):
        ((key, table),) = tables(rows)
        assert set(table["front"]) == {""}
        ET.fromstring(svg_bytes(pareto_figure(key, table)))


def test_the_figure_has_a_panel_for_each_cost_and_numbers_the_front():
    ((key, table),) = tables(FOUR)
    figure = pareto_figure(key, table)
    ET.fromstring(svg_bytes(figure))
    energy, area = figure.axes
    assert (energy.get_ylabel(), area.get_ylabel(), area.get_xlabel()) == ("energy (pJ)", "area (mm²)", "latency (µs)")
    assert [t.get_text() for t in energy.texts] == ["1", "2", "4"]
    assert [t.get_text() for t in area.texts] == ["1", "3"]
    dominated, _, front = energy.lines
    assert dominated.get_xdata().tolist() == pytest.approx([0.12])
    assert front.get_ydata().tolist() == [40, 30, 10]


def test_a_sweep_is_one_table_and_one_figure_in_every_form(tmp_path):
    written = write_report(frame([*FOUR, *two_layers(target="other")]), None, tmp_path, "t", [])
    drawn = [name for name in written if name.endswith(".svg")]
    assert [name for name in drawn if "vitcod" in name] == ["figures/tiny-vitcod-1-tokens-designs.svg"]
    assert len(drawn) == 3
    page = written["report.html"].read_text()
    assert page.count("<figure") == page.count('data-chart="') == 4  # latency against energy, and against area
    assert "tiny, vitcod with dram.channels=2 (cycle level), 1 token: designs, fastest first" in page
    assert "Designs" in written["report.md"].read_text()
    assert "designs on a Pareto front, of 4 that were tried" in written["report.tex"].read_text()
    table = pd.read_csv(written["designs.csv"])
    assert table["settings"].tolist()[0] == "dram.channels=2 array.rows=3"
    assert table["target"].unique().tolist() == ["vitcod"]


def test_nothing_but_a_sweep_makes_a_report(tmp_path):
    written = write_report(frame(FOUR), None, tmp_path, "t", [])
    page = written["report.html"].read_text()
    assert "Whole model" not in page
    assert "Left out of energies" in page
    assert "designs.csv" not in write_report(frame(two_layers()), None, tmp_path / "few", "t", [])


def test_the_terminal_shows_the_fastest_designs():
    rows = [design(n, 100 + n, 10, 5) for n in range(30)]
    console = Console(record=True, width=180, file=io.StringIO())
    print_report(frame(rows), None, console, few=4)
    text = console.export_text()
    assert "the fastest 10 of 30 lines" in text
    assert "rows=9 " in text
    assert "rows=10 " not in text
    assert "0.99x (slower)" in text
