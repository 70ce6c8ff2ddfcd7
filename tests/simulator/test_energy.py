"""Energy of a layer and area of a design: hand arithmetic on published figures, and laws."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from simulator.actions import Actions
from simulator.energy import EnergySpec, area_mm2, layer_energy, sources, unit_energies
from workloads.errors import UserError

SPEC = EnergySpec(node_nm=45, number_type="int", gating="none", dram="generic")
BITS = (8, 8, 32)
BUFFERS = (32 * 1024.0, 0.0, 8 * 1024.0, 1024 * 1024.0)
NOTHING = (0.0, 0.0, 0.0, 0.0)
MAC, REGISTERS = 0.2 + 0.1, 2 * 48 * 0.009  # Horowitz; Aladdin

counts = st.floats(0, 1e12)
per_buffer = st.tuples(counts, counts, counts, counts)
actions = st.builds(Actions, counts, counts, per_buffer, per_buffer, counts)
specs = st.builds(
    EnergySpec,
    node_nm=st.sampled_from([130, 65, 45, 28, 16, 7]),
    number_type=st.sampled_from(["int", "float"]),
    gating=st.sampled_from(["none", "idle"]),
    dram=st.sampled_from(["DDR4-3200", "LPDDR5-6400", "GDDR6", "HBM2", "HBM3", "generic"]),
)


def test_by_hand_at_45_nm():
    """Each part from the published figures, by hand."""
    done = Actions(1000, 100, (640, 0, 64, 0), (0, 0, 0, 128), 64)
    energy = layer_energy(SPEC, done, BITS, BUFFERS)
    assert energy.mac_pj == pytest.approx(1000 * MAC)
    assert energy.register_pj == pytest.approx(1000 * REGISTERS)
    assert energy.idle_pj == pytest.approx(100 * (MAC + REGISTERS))
    assert energy.buffer_pj == pytest.approx(10 * 20 + 10 + 2 * 100 * 317.0 / 285.7)  # 64 bits: 20, 10 and 100 pJ
    assert energy.dram_pj == pytest.approx(1300)
    parts = energy.mac_pj + energy.register_pj + energy.idle_pj + energy.buffer_pj + energy.dram_pj
    assert energy.total_pj == pytest.approx(parts)


def test_gating_leaves_the_published_share():
    gated = EnergySpec(45, "int", "idle", "generic")
    idle = Actions(0, 1, NOTHING, NOTHING, 0)
    expected = MAC * 0.018 / 0.561 + REGISTERS * 0.003 / 0.072
    assert layer_energy(gated, idle, BITS, BUFFERS).total_pj == pytest.approx(expected)


def test_node_scales_all_but_dram():
    done = Actions(1000, 100, (640, 0, 64, 0), (0, 0, 0, 128), 64)
    at_45 = layer_energy(SPEC, done, BITS, BUFFERS)
    at_7 = layer_energy(EnergySpec(7, "int", "none", "generic"), done, BITS, BUFFERS)
    assert at_7.dram_pj == at_45.dram_pj
    for part in ("mac_pj", "register_pj", "idle_pj", "buffer_pj"):
        assert getattr(at_7, part) == pytest.approx(0.094 * getattr(at_45, part), rel=0.005)


@pytest.mark.parametrize(
    ("dram", "pj_per_bit"), [("HBM2", 6.25), ("HBM3", 4.05), ("DDR4-3200", 15), ("LPDDR5-6400", 5), ("GDDR6", 7)]
)
def test_dram_devices(dram, pj_per_bit):
    assert unit_energies(EnergySpec(45, "int", "none", dram), BITS, BUFFERS).dram_pj == pj_per_bit


@given(specs, actions, actions)
def test_energy_is_additive_and_never_negative(spec, a, b):
    """Two layers one after the other cost the sum; hence also: more of any action never costs less."""
    both = Actions(
        a.macs + b.macs,
        a.idle_macs + b.idle_macs,
        tuple(x + y for x, y in zip(a.read_bits, b.read_bits, strict=True)),
        tuple(x + y for x, y in zip(a.write_bits, b.write_bits, strict=True)),
        a.dram_bits + b.dram_bits,
    )
    buffers = (1e5, 1e4, 1e5, 1e6)
    energies = [layer_energy(spec, done, BITS, buffers).total_pj for done in (a, b, both)]
    assert min(energies) >= 0
    assert energies[0] + energies[1] == pytest.approx(energies[2])


@given(specs)
def test_an_idle_slot_costs_at_most_a_mac(spec):
    unit = unit_energies(spec, BITS, BUFFERS)
    full = unit.mac_pj + unit.register_pj
    assert unit.idle_pj == pytest.approx(full) if spec.gating == "none" else 0 < unit.idle_pj < 0.05 * full


def test_traffic_of_an_absent_buffer_is_refused():
    with pytest.raises(ValueError, match="absent index buffer"):
        layer_energy(SPEC, Actions(0, 0, (0, 1, 0, 0), NOTHING, 0), BITS, BUFFERS)
    assert layer_energy(SPEC, Actions(0, 0, NOTHING, NOTHING, 0), BITS, NOTHING).total_pj == 0


def test_unknown_device_and_node():
    with pytest.raises(UserError, match=r"energy\.dram = 'DDR9'.*DDR4-3200"):
        unit_energies(EnergySpec(45, "int", "none", "DDR9"), BITS, BUFFERS)
    with pytest.raises(UserError, match=r"node_nm = 5: .*describe the chip at 7"):
        area_mm2(EnergySpec(5, "int", "none", "generic"), 1, BITS, BUFFERS)


def test_as_a_section_of_a_preset():
    """The way presets are read: strict JSON, unknown values and keys refused."""
    values = {"node_nm": 28, "number_type": "int", "gating": "idle", "dram": "DDR4-3200"}
    adapter = TypeAdapter(EnergySpec)
    read = adapter.validate_json(json.dumps(values), strict=True, extra="forbid")
    assert read == EnergySpec(28, "int", "idle", "DDR4-3200")
    for wrong in ({"node_nm": 5}, {"number_type": "fixed"}, {"gating": "all"}, {"dram": "DDR9"}, {"volts": 1}):
        with pytest.raises(ValidationError):
            adapter.validate_json(json.dumps(values | wrong), strict=True, extra="forbid")


def test_area_by_hand():
    """1 MB of 0.346 um2 cells that fill 70 %; a MAC of the published int8 multiplier, int32 adder, 48 register bits."""
    area = area_mm2(SPEC, 100, BITS, (2.0**20, 0, 0, 0))
    assert area.buffer_mm2 == pytest.approx(2**23 * 0.346e-6 / 0.7)
    assert area.mac_mm2 == pytest.approx(100 * (282 + 137 + 48 * 5.98) * 1e-6)
    assert area.total_mm2 == area.mac_mm2 + area.buffer_mm2
    at_16 = area_mm2(EnergySpec(16, "int", "none", "generic"), 100, BITS, (2.0**20, 0, 0, 0))
    assert at_16.total_mm2 == pytest.approx(0.19 * area.total_mm2)


@given(specs, st.integers(1, 10**6), per_buffer)
def test_area_is_proportional(spec, macs, buffers):
    one, two = area_mm2(spec, macs, BITS, buffers), area_mm2(spec, 2 * macs, BITS, tuple(2 * x for x in buffers))
    assert two.mac_mm2 == pytest.approx(2 * one.mac_mm2)
    assert two.buffer_mm2 == pytest.approx(2 * one.buffer_mm2)


def test_sources_are_complete():
    rows = sources()
    assert all(set(row) == {"name", "value", "unit", "node_nm", "source"} for row in rows)
    assert all(row["name"] and row["unit"] and row["source"] for row in rows)
    assert all(math.isfinite(row["value"]) and row["value"] > 0 for row in rows)
    assert len({(row["name"], row["node_nm"]) for row in rows}) == len(rows)
    values = {row["name"]: row["value"] for row in rows}
    assert values["int8 multiplier energy"] == 0.2
    assert values["HBM3"] == 4.05
