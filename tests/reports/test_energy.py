"""Energy and energy-delay product: how they add up, and how a page shows them."""

import math
import re

import pandas as pd
import pytest

from reports import headline_table, write_report
from reports.tables.layers import role_table
from reports.tables.parts import energy_table
from reports.tables.sums import checked
from reports.words.statements import NOT_IN_ENERGY
from tests.reports.samples import barred, frame, powered, row, two_layers, two_powered

CONSTANTS = pd.DataFrame([
    {"name": "int8 adder", "value": 0.03, "unit": "pJ", "node_nm": 45, "source": "A. Author, <2014>"},
    {"name": "a DRAM", "value": 15, "unit": "pJ/bit", "node_nm": None, "source": "assumption"},
])  # fmt: skip


def test_energies_are_summed_and_their_ratio_is_sum_over_sum():
    line = headline_table(frame(two_powered())).iloc[0]
    assert (line.dense_energy_pj, line.energy_pj) == (1000, 600)
    assert line[["mac_pj", "idle_pj", "register_pj", "buffer_pj", "dram_pj"]].tolist() == [210, 70, 80, 90, 150]
    assert line.energy_ratio == pytest.approx(1000 / 600)
    assert line.area_mm2 == 2


def test_the_product_of_a_model_is_summed_energy_times_summed_latency():
    line = headline_table(frame(two_powered())).iloc[0]
    # 350 cycles at 500 MHz; dense 400.
    assert line.latency_us == pytest.approx(0.7)
    assert line.edp_pj_us == pytest.approx(600 * 0.7)
    assert line.edp_ratio == pytest.approx((1000 * 0.8) / (600 * 0.7))


def test_roles_have_their_own_ratios():
    table = role_table(frame(two_powered())).set_index("role")
    assert table.energy_ratio.tolist() == pytest.approx([2.0, 100 / 150, 1000 / 600])
    assert table.edp_ratio.tolist() == pytest.approx([4.0, 100 / 150, 1000 / 600 * 400 / 350])


def test_a_missing_energy_makes_the_sum_missing_not_smaller():
    line = headline_table(frame([two_powered()[0], two_layers()[1]])).iloc[0]
    assert all(math.isnan(line[name]) for name in ("energy_pj", "energy_ratio", "edp_pj_us", "mac_pj"))
    assert line.speedup == pytest.approx(400 / 350)


def test_layers_that_cannot_run_enter_neither_energy():
    line = headline_table(frame([*two_powered(), powered(barred(), 5000, 1, 1, 1, 1, 1)])).iloc[0]
    assert (line.dense_energy_pj, line.energy_pj) == (1000, 600)


def test_energies_are_means_over_seeds_and_their_ratio_is_that_of_the_means():
    rows = [powered(row(100, 50, seed=s), 120, part, 0, 0, 0, 0) for s, part in ((1, 40), (2, 80))]
    line = headline_table(frame(rows)).iloc[0]
    assert (line.energy_pj, line.dense_energy_pj, line.energy_ratio) == (60, 120, 2)
    # 120 / 40 = 3 and 120 / 80 = 1.5.
    assert line.energy_ratio_spread == pytest.approx(1.5 / math.sqrt(2))


def write(folder, rows, **others) -> dict:
    return write_report(frame(rows), None, folder, "A title", [], **others)


def test_more_energy_is_a_warning_beside_a_speedup(tmp_path):
    written = write(tmp_path, [powered(row(200, 100), 90, 100, 0, 0, 0, 0)])
    page = written["report.html"].read_text()
    said = "tiny, vitcod (cycle level), decode (1 token): wanda 2:4, 2.00x; more energy than dense: wanda 2:4 0.90x. "
    assert f'<li class="worse">{said}' in page
    assert '<td class="n worse" data-v="0.9">0.90x (more energy)</td>' in page
    assert r"\textbf{0.90x (more energy)}" in written["report.tex"].read_text()


def test_the_page_names_parts_units_and_what_is_left_out(tmp_path):
    rows = [powered(row(200, 100), 9e6, 1e6, 0.5e6, 1e6, 1e6, 2.5e6, area_mm2=1.25)]
    written = write(tmp_path, rows)
    for name in ("report.html", "report.md"):
        text = written[name].read_text()
        assert NOT_IN_ENERGY.split(":")[0] in text
        for heading in ("MACs (µJ)", "Idle MAC slots (µJ)", "DRAM (µJ)", "Dense energy (µJ)", "Area (mm²)"):
            assert heading in text
        assert "2.50" in text
    assert {"figures/tiny-vitcod-1-tokens-energy.svg", "figures/tiny-vitcod-1-tokens-energy.png"} <= set(written)
    assert r"DRAM ($\mu$J)" in written["report.tex"].read_text()


def test_a_report_without_energies_does_not_speak_of_them(tmp_path):
    written = write(tmp_path, two_layers(), constants=CONSTANTS)
    for name in ("report.html", "report.md", "report.tex"):
        assert not re.search("energ", written[name].read_text(), re.IGNORECASE)
    assert not [name for name in written if "energy" in name]


def test_constants_stand_on_the_page_with_their_sources(tmp_path):
    written = write(tmp_path, two_powered(), constants=CONSTANTS)
    page = written["report.html"].read_text()
    assert "A. Author, &lt;2014&gt;" in page
    assert re.search(r"<th scope=\"row\">int8 adder</th><td[^>]*>0\.03</td><td>pJ</td><td[^>]*>45</td>", page)
    assert "| a DRAM | 15 | pJ/bit | \N{EN DASH} | assumption |" in written["report.md"].read_text()


def test_the_unpruned_bar_is_split_like_the_others_where_rows_say_how():
    """Mean of two layers of one role; rows of earlier versions have the sum alone."""
    parts = ("mac", "idle", "register", "buffer", "dram")
    rows = [{**row, "role": "q", **{f"dense_{name}_pj": value * row["dense_energy_pj"] / 100
                                    for name, value in zip(parts, (50, 0, 10, 15, 25), strict=True)}}
            for row in two_powered()]  # fmt: skip
    table = energy_table(checked(frame(rows)))
    dense = table[table["run"] == "dense"].set_index("part")["amount"]
    assert dense.to_dict() == pytest.approx({"MACs": 250, "registers": 50, "buffers": 75, "DRAM": 125})
    earlier = energy_table(checked(frame(two_powered())))
    assert set(earlier.loc[earlier["run"] == "dense", "part"]) == {"dense, not split"}
