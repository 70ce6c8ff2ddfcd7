"""Layers that fit their target masked and not unpruned: they count, and take the speedup of every sum away."""

import math

import pandas as pd
import pytest

from reports.sections.gains import gains
from reports.sections.whole_model import coverage
from reports.tables.by_tokens import curves
from reports.tables.layers import headline_table, infeasible_table, role_table
from reports.tables.sums import checked, sums
from reports.write import write_report
from studies.gaps import check_any_ran, warn_of_gaps
from tests.reports.samples import barred, two_powered
from workloads.errors import NothingRan
from workloads.rows import to_frame

OF_DENSE = ("dense_cycles", "dense_compute_cycles", "speedup", "compute_speedup", "dense_energy_pj", "energy_ratio")
WHY = "no dense baseline, it does not fit: 9 B of 4"


def bare(row: dict) -> dict:
    return {name: value for name, value in row.items() if name not in OF_DENSE} | {"reason": WHY}


@pytest.fixture
def rows() -> pd.DataFrame:
    """The small layer (50 cycles, 450 pJ) without a baseline, the big one (300 cycles, 150 pJ) with, a third that
    cannot run."""
    small, big = two_powered()
    return checked(to_frame([bare(small), big, barred()]))


def test_sums_count_them_and_have_no_ratio(rows):
    found = sums(rows)
    assert (found["layers"], found["infeasible_layers"], found["no_baseline_layers"]) == (2, 1, 1)
    assert (found["cycles"], found["energy_pj"]) == (350, 600)
    assert all(math.isnan(found[name]) for name in ("dense_cycles", "speedup", "energy_ratio", "compute_speedup"))
    by_role = role_table(rows).set_index("role")
    assert by_role.loc["up", "speedup"] == 1
    assert by_role.loc[["q", "all"], "speedup"].isna().all()
    assert by_role.loc["q", "time_share"] == pytest.approx(50 / 350)


def test_tables_and_sentences_say_so(rows):
    table = infeasible_table(rows)
    assert dict(zip(table["reason"], zip(table["infeasible_layers"], table["no_baseline_layers"], strict=True),
                    strict=True)) == {WHY: (0, 1), "no room": (1, 0)}  # fmt: skip
    ((sentence, warns),) = gains(headline_table(rows))
    assert warns
    assert "1 of 2 layer results have no dense baseline" in sentence
    assert "1 of 3 layer results cannot run" in sentence
    assert "1 of 3 result rows have no dense baseline" in coverage(rows)
    assert curves(rows).empty


@pytest.mark.parametrize("all_of_them", [False, True])
def test_a_whole_report(rows, tmp_path, all_of_them):
    """Also a sweep of four designs of which one has a baseline."""
    small, big = two_powered()
    layers = [bare(small), bare(big)] if all_of_them else [bare(small), big]
    swept = [{**row, "target": "stc", "settings": f"array.rows={n}"} for n in range(1, 5) for row in layers]
    files = write_report(to_frame([*layers, barred(), *swept]), None, tmp_path, "t", [])
    page = files["report.md"].read_text()
    assert "Layers without baseline" in page
    assert "no dense baseline" in page
    assert "nan" not in page.lower().replace("nand", "").split()


def test_what_a_command_says(rows, capsys):
    warn_of_gaps(rows)
    said = capsys.readouterr().err
    assert "1 of 3 rows cannot run on vitcod; layers.0.down: no room" in said
    assert f"1 of 3 rows have no speedup on vitcod; layers.0.q: {WHY}" in said
    check_any_ran(rows)
    with pytest.raises(
        NothingRan, match=r"none of 1 rows can run on vitcod; the first, layers\.0\.down: no room"
    ) as stop:
        check_any_ran(to_frame([barred()]))
    assert stop.value.exit_code == 3
