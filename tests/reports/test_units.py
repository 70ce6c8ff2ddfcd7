import pandas as pd
import pytest

from reports.words.units import ENERGIES, fitting, in_units, unit_of


@pytest.mark.parametrize(
    ("largest", "text"),
    [
        (0.5, "pJ"),
        (999.0, "pJ"),
        (1000.0, "nJ"),
        (1e6, "µJ"),
        (3e9, "mJ"),
        (2e12, "J"),
        (float("nan"), "pJ"),
        (0, "pJ"),
    ],
)
def test_the_largest_value_is_at_least_one(largest, text):
    assert fitting(ENERGIES, largest).text == text


def test_columns_of_a_kind_share_one_unit_and_carry_it_in_their_name():
    table = pd.DataFrame(
        {"mac_pj": [3e9, 1e3], "dram_pj": [1e6, None], "latency_us": [2000.0, 1.0], "edp_pj_us": [4e13, 0]}
    )
    made, names = in_units(table)
    assert names == {"mac_pj": "mac_mj", "dram_pj": "dram_mj", "latency_us": "latency_ms", "edp_pj_us": "edp_mj_ms"}
    assert made["mac_mj"].tolist() == [3, 1e-6]
    assert made["dram_mj"][0] == 1e-3
    assert made["latency_ms"].tolist() == [2, 1e-3]
    assert made["edp_mj_ms"].tolist() == [40, 0]


def test_a_product_in_its_unit_is_the_product_of_its_factors():
    # 5 mJ for 3 ms.
    made, _ = in_units(pd.DataFrame({"energy_pj": [5e9], "latency_us": [3e3], "edp_pj_us": [5e9 * 3e3]}))
    assert made.iloc[0].tolist() == [5, 3, 15]
    assert list(made.columns) == ["energy_mj", "latency_ms", "edp_mj_ms"]


def test_columns_without_a_unit_stay():
    table = pd.DataFrame({"cycles": [1e9], "speedup": [2.0]})
    made, names = in_units(table)
    assert names == {}
    assert made.equals(table)


def test_a_name_leads_back_to_the_base_unit():
    assert unit_of("dram_mj")[0] == "dram_pj"
    assert unit_of("edp_mj_ms")[0] == "edp_pj_us"
    assert unit_of("latency_ms")[0] == "latency_us"
    assert unit_of("cycles") is None
