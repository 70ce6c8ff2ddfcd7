"""Parts and process nodes: published points are hit exactly, and the curves between them behave."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.energy.components import (
    mac_area_um2,
    mac_energy_pj,
    register_energy_pj,
    sram_mm2,
    sram_read_pj,
    sram_write_pj,
)
from simulator.energy.interpolate import power_law
from simulator.energy.scaling import AREA_FROM_45, Node, area_factor, energy_factor
from workloads.errors import UserError

widths = st.integers(1, 64)
kinds = st.sampled_from(["int", "float"])
capacities = st.floats(1, 2**30)


@pytest.mark.parametrize(
    ("node_nm", "factor"), [(45, 1), (32, 0.659), (20, 0.221), (16, 0.174), (14, 0.139), (10, 0.118), (7, 0.094)]
)
def test_energy_factors_at_0_8_volts(node_nm, factor):
    assert energy_factor(node_nm) == pytest.approx(factor, abs=0.0005)


def test_energy_factor_is_the_ratio_of_the_polynomials():
    """90 nm at 1 V, by hand: (4.762 - 4.781 + 2.092) / (1.103 - 0.362 + 0.2767)."""
    assert energy_factor(90, volts=1.0) == pytest.approx(2.073 / 1.0177)


# Stillmaker & Baas's table the other way round, to 45 nm; both directions are published with two digits.
TO_45 = {130: 0.16, 90: 0.35, 65: 0.66, 32: 2.2, 20: 4.7, 16: 5.3, 14: 5.8, 10: 9.8, 7: 17}


@pytest.mark.parametrize(("node_nm", "back"), TO_45.items())
def test_area_factors_there_and_back(node_nm, back):
    assert AREA_FROM_45[node_nm] * back == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize("factor", [energy_factor, area_factor])
def test_smaller_nodes_take_less(factor):
    nodes = sorted(get_args(Node))
    factors = [factor(node) for node in nodes]
    assert factors == sorted(factors)
    assert len(set(factors)) == len(nodes) - 1  # 40 nm is 45 nm
    assert factor(40) == factor(45) == 1


def test_28_nm_lies_on_the_line_between_32_and_20():
    """Where log(28) lies between log(20) and log(32): 0.7159 of the way."""
    assert area_factor(28) == pytest.approx(0.21 * (0.46 / 0.21) ** 0.71590, rel=1e-4)
    assert energy_factor(28) == pytest.approx(0.2211 * (0.6593 / 0.2211) ** 0.71590, rel=1e-3)


@pytest.mark.parametrize("node_nm", [5, 3, 180, 0])
def test_unknown_nodes_are_refused(node_nm):
    for factor in (energy_factor, area_factor):
        with pytest.raises(UserError, match=f"node_nm = {node_nm}: known are 130, 90"):
            factor(node_nm)


# Cells of other nodes, each of another publication, beside the 45 nm cell scaled as logic: Thompson, IEDM 2002; Bai,
# IEDM 2004; Packan, IEDM 2009; Wu, IEDM 2013; Karl, ISSCC 2015; Guo, ISSCC 2018; Wu, IEDM 2016.
@pytest.mark.parametrize(
    ("node_nm", "cell_um2"), [(90, 1.0), (65, 0.57), (32, 0.171), (16, 0.07), (14, 0.0499), (10, 0.0312), (7, 0.027)]
)
def test_published_sram_cells_are_within_a_quarter(node_nm, cell_um2):
    modelled_um2 = sram_mm2(1, node_nm) * 1e6 / 8 * 0.7
    assert modelled_um2 == pytest.approx(cell_um2, rel=0.25)


@pytest.mark.parametrize(
    ("kind", "bits", "energy_pj", "area_um2"),
    [
        ("int", 8, 0.2 + 0.03, 282 + 36),
        ("int", 32, 3.1 + 0.1, 3495 + 137),
        ("float", 16, 1.1 + 0.4, 1640 + 1360),
        ("float", 32, 3.7 + 0.9, 7700 + 4184),
    ],
)
def test_published_macs_are_hit(kind, bits, energy_pj, area_um2):
    assert mac_energy_pj(kind, bits, bits, bits) == pytest.approx(energy_pj)
    assert mac_area_um2(kind, bits, bits, bits) == pytest.approx(area_um2 + 3 * bits * 5.98)


def test_int_multiplier_is_nearly_quadratic_and_adder_hits_16_bits():
    """The multiplier alone: a MAC less its adder. In log scale 16 bits lie midway between 8 and 32."""
    multiplier_16 = mac_energy_pj("int", 16, 16, 16) - 0.05
    assert multiplier_16 == pytest.approx((0.2 * 3.1) ** 0.5)
    assert multiplier_16 / 0.2 == pytest.approx(4, rel=0.02)


@given(kinds, widths, widths, widths)
def test_macs_grow_with_every_width(kind, weight, activation, accumulator):
    for measure in (mac_energy_pj, mac_area_um2):
        here = measure(kind, weight, activation, accumulator)
        assert here > 0
        assert measure(kind, weight + 1, activation, accumulator) > here
        assert measure(kind, weight, activation + 1, accumulator) > here
        assert measure(kind, weight, activation, accumulator + 1) > here
        assert measure(kind, activation, weight, accumulator) == here


@given(st.integers(4, 64))
def test_float_costs_more_than_int(bits):
    assert mac_energy_pj("float", bits, bits, bits) > mac_energy_pj("int", bits, bits, bits)
    assert mac_area_um2("float", bits, bits, bits) > mac_area_um2("int", bits, bits, bits)


def test_registers():
    assert register_energy_pj(8) == pytest.approx(2 * 0.072)  # Sparseloop: an 8-bit latch, written and read


@pytest.mark.parametrize(("kib", "pj"), [(8, 10 / 64), (32, 20 / 64), (256, 285.7 / 512), (1024, 100 / 64)])
def test_published_srams_are_hit(kib, pj):
    assert sram_read_pj(kib * 1024) == pytest.approx(pj)
    assert sram_read_pj(kib * 1024, 7) == pytest.approx(0.0943 * pj, rel=1e-3)


def test_sram_beyond_its_points():
    """Square root of the capacity on both sides, down to a register bit."""
    assert sram_read_pj(2048) == pytest.approx(10 / 64 / 2)
    assert sram_read_pj(4 * 2**20) == pytest.approx(2 * 100 / 64)
    assert sram_read_pj(1) == 0.009
    assert sram_write_pj(256 * 1024) == pytest.approx(317.0 / 512)


@given(capacities, st.floats(1.01, 10))
def test_sram_grows_with_capacity(capacity, times):
    assert sram_read_pj(capacity * times) >= sram_read_pj(capacity) > 0
    assert sram_write_pj(capacity) > sram_read_pj(capacity)
    assert sram_mm2(capacity * times) == pytest.approx(times * sram_mm2(capacity))


@pytest.mark.parametrize("size", [8 * 1024, 32 * 1024, 256 * 1024, 2**20])
def test_sram_has_no_jumps(size):
    assert sram_read_pj(size - 1) == pytest.approx(sram_read_pj(size + 1), rel=1e-3)


@given(st.floats(0.1, 5), st.floats(0.1, 5), st.floats(0.01, 1e4))
def test_power_law_reproduces_a_power_law(scale, exponent, x):
    points = {size: scale * size**exponent for size in (2, 16, 100)}
    assert power_law(points, x) == pytest.approx(scale * x**exponent)


def test_published_comparison_rows():
    """The check in benchmarks/ adds up and finds no part off by more than ten."""
    from validation.sources.energy_tables import published_comparison

    rows = published_comparison()
    assert {"EIE", "Cambricon-S", "BitWave"} <= {row["machine"] for row in rows}
    for row in rows:
        assert row["ratio"] == row["modelled"] / row["published"]
        assert 0.1 < row["ratio"] < 10
