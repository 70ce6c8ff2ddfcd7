"""DRAM streams: closed forms, what Ramulator 2.1 measured, the address mappings, and the figures an engine uses."""

import dataclasses

import numpy as np
import pytest

from simulator.dram import PRESETS, locate, serve, stream_efficiency, streaming
from simulator.dram.streams import efficiency_of, first_access_cycles
from validation.sources import dram_laws
from validation.sources.dram_laws import one_bank
from workloads.errors import UserError

DEVICES = list(PRESETS)
# Asked for by name in accelerator descriptions.
NAMED = {"DDR4-3200": 25.6, "LPDDR5-6400": 12.8, "GDDR6": 28.0, "HBM2": 32.0, "HBM3": 51.2}


@pytest.mark.parametrize(("device", "gbps"), NAMED.items())
def test_peak_of_a_channel(device, gbps):
    assert PRESETS[device].peak_gbps == pytest.approx(gbps)


@pytest.mark.parametrize("device", DEVICES)
def test_a_burst_takes_nbl_cycles_of_the_peak(device):
    t = PRESETS[device]
    assert t.burst_bytes * t.pseudo_channels / (t.nBL * t.clock_ns) == pytest.approx(t.peak_gbps, rel=1e-4)
    assert t.nRAS + t.nRP <= t.nRC + 1
    assert t.nCCD_S <= t.nCCD_R <= t.nCCD_L <= t.nCCD_L_WR


@pytest.mark.parametrize("device", DEVICES)
def test_a_lone_read_of_a_closed_bank(device):
    t = PRESETS[device]
    served = serve(t, np.array([3]), np.array([9]), np.array([False]))
    latency = t.nRCD + t.nCL + t.nBL
    assert served.finish_cycles[0] == first_access_cycles(t)
    assert served.finish_cycles[0] - latency in (0, 1)


@pytest.mark.parametrize("device", DEVICES)
def test_a_lone_write_of_a_closed_bank(device):
    t = PRESETS[device]
    served = serve(t, np.array([0]), np.array([0]), np.array([True]))
    assert served.finish_cycles[0] == t.act_bus_cycles - 1 + t.nRCDW + t.nCWL + t.nBL


@pytest.mark.parametrize("device", DEVICES)
def test_a_new_row_of_one_bank_per_access_takes_nrc(device):
    t = PRESETS[device]
    for n in (2, 3, 50, 400):
        assert one_bank(t, n, refresh=False) == first_access_cycles(t) + (n - 1) * t.nRC


@pytest.mark.parametrize("device", DEVICES)
def test_refresh_stretches_it_by_its_share_of_the_time(device):
    t = PRESETS[device]
    n = 60 * t.nREFI // t.nRC
    per_access = (one_bank(t, n, refresh=True) - one_bank(t, 1, refresh=True)) / (n - 1)
    # a run of sixty intervals ends within one refresh of the average
    assert per_access == pytest.approx(t.nRC / (1 - t.nRFC / t.nREFI), rel=1.5 * t.nRFC / t.nREFI / 60 + 1e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_what_refresh_costs_a_stream_of_reads(device):
    t = PRESETS[device]
    kept, free = (efficiency_of(t, "read", "interleaved", refresh, window=80) for refresh in (True, False))
    assert kept / free == pytest.approx(1 - (t.nRTP + t.nRP + t.nRFC + t.nRCD) / t.nREFI, abs=0.006)


# How far below the bound; commands that want one bus at the same cycle delay an ACT now and then.
RANDOM = {"DDR5-4800": 0.002, "GDDR6": 0.005, "LPDDR5-6400": 0.05, "HBM3": 0.05}


@pytest.mark.parametrize(("device", "within"), RANDOM.items())
def test_random_reads_are_bound_by_activates(device, within):
    t = PRESETS[device]
    law = t.nBL / max(t.nFAW / 4, t.nRRD_S)
    assert law * (1 - within) <= stream_efficiency(device, "random", refresh=False) <= law * 1.002


def test_random_reads_of_ddr4_reach_the_bound_or_lock_one_cycle_beside_it():
    """Four ACTs nRRD apart, then the window of 34: if the fifth ACT meets the RD of the fourth (22 after it), which
    goes first, the window is 35 until something moves the phases. Which of the two a run falls into is chance."""
    t = PRESETS["DDR4-3200"]
    assert 3 * t.nRRD_S + t.nRCD == t.nFAW
    found = np.array([stream_efficiency("DDR4-3200", "random", refresh=False, seed=seed) for seed in range(4)])
    assert found.max() == pytest.approx(4 * t.nBL / t.nFAW, rel=0.002)
    assert found.min() == pytest.approx(4 * t.nBL / (t.nFAW + 1), rel=0.002)


def test_random_reads_of_hbm2_are_bound_by_the_row_bus():
    t = PRESETS["HBM2"]
    row_bus_cycles = t.pseudo_channels * (t.act_bus_cycles + 1)
    assert stream_efficiency("HBM2", "random", refresh=False) == pytest.approx(t.nBL / row_bus_cycles, rel=0.005)


def test_one_bank_group_is_bound_by_nccd_l():
    t = dataclasses.replace(PRESETS["DDR4-3200"], bank_groups=1, banks_per_group=16)
    assert efficiency_of(t, "read", "row", refresh=False) == pytest.approx(t.nBL / t.nCCD_L, rel=0.01)


def test_rows_of_one_bank_in_turn_as_measured():
    assert stream_efficiency("DDR4-3200", "read", mapping="row") == pytest.approx(0.615, rel=0.03)


@pytest.mark.parametrize("case", dram_laws.MEASURED, ids=lambda case: "-".join(str(part) for part in case[:3]))
def test_within_three_percent_of_ramulator(case):
    device, kind, refresh, measured = case
    assert stream_efficiency(device, kind, refresh=refresh) == pytest.approx(measured, rel=0.03)


def test_the_table_of_the_validation_page():
    rows = dram_laws.rows()
    compared = [row for row in rows if row["reference"] == "Ramulator 2.1 (c5b1c3a)"]
    assert len(compared) == len(dram_laws.MEASURED) + 1
    for row in rows:
        assert set(row) == {"device", "case", "model", "expected", "error", "reference"}
        assert row["error"] == pytest.approx(row["model"] / row["expected"] - 1)


@pytest.mark.parametrize("device", DEVICES)
def test_no_stream_beats_the_bus_and_sequential_beats_the_others(device):
    found = {kind: stream_efficiency(device, kind) for kind in ("read", "write", "alternating", "random")}
    assert all(0 < value < 1 for value in found.values())
    assert min(found["read"], found["write"]) > max(found["alternating"], found["random"])
    assert stream_efficiency(device, "read", mapping="row") < found["read"]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("batch", [64, 512])
def test_switches_cost_what_the_port_is_told(device, batch):
    """Batches of reads and writes in turn: bursts at their efficiencies plus an idle bus at each switch, within 5 %."""
    memory, t = streaming(device), PRESETS[device]
    size = batch * t.burst_bytes
    period_ns = memory.transfer_ns(size) + memory.transfer_ns(size, write=True)
    period_ns += memory.turnaround_ns
    told = 2 * size / t.peak_gbps / period_ns
    assert stream_efficiency(device, "alternating", batch=batch) == pytest.approx(told, rel=0.05)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mapping", ["interleaved", "row"])
def test_a_mapping_gives_every_row_its_bursts(device, mapping):
    t = dataclasses.replace(PRESETS[device], rows=64)
    bank, row = locate(np.arange(t.banks * t.rows * t.bursts_per_row), t, mapping)
    counts = np.bincount(bank * t.rows + row, minlength=t.banks * t.rows)
    assert (counts == t.bursts_per_row).all()
    again, _ = locate(
        np.arange(t.banks * t.rows * t.bursts_per_row, t.banks * t.rows * t.bursts_per_row + 99), t, mapping
    )
    assert (again == bank[:99]).all()


def test_neighbouring_bursts_fall_into_different_groups():
    t = PRESETS["DDR4-3200"]
    bank, _ = locate(np.arange(4096), t)
    groups = (bank // t.banks_per_group).reshape(-1, 4)
    assert (np.sort(groups) == np.arange(4)).all()
    walked, rows = locate(np.arange(t.bursts_per_row), t, "row")
    assert len(set(walked.tolist())) == len(set(rows.tolist())) == 1


def test_channels_multiply_the_peak_and_round_transfers_up():
    one, eight = streaming("HBM2"), streaming("HBM2", channels=8)
    assert (one.peak_gbps, eight.peak_gbps) == (32.0, 256.0)
    assert (one.burst_bytes, one.granularity_bytes, eight.granularity_bytes) == (32, 64, 512)
    assert eight.transfer_ns(1) == eight.transfer_ns(512) == pytest.approx(512 / (256 * eight.read_efficiency))
    assert eight.transfer_ns(513) == pytest.approx(2 * eight.transfer_ns(512))
    assert eight.transfer_ns(0) == 0
    assert eight.transfer_ns(4096, write=True) == pytest.approx(4096 / (256 * eight.write_efficiency))
    assert eight.first_access_ns == one.first_access_ns == 31.0


def test_mistakes_get_one_line():
    with pytest.raises(UserError, match="unknown DRAM device 'HBM9'; did you mean"):
        streaming("HBM9")
    with pytest.raises(UserError, match=r"dram.channels = 0 of GDDR6: a memory needs 1"):
        streaming("GDDR6", channels=0)
    with pytest.raises(UserError, match="unknown DRAM stream 'reads'; did you mean 'read'"):
        stream_efficiency("HBM2", "reads")
    with pytest.raises(UserError, match="unknown DRAM address mapping 'rows'"):
        stream_efficiency("HBM2", "read", mapping="rows")
    with pytest.raises(UserError, match="batch = 0"):
        stream_efficiency("HBM2", "alternating", batch=0)
    with pytest.raises(UserError, match="bank_groups = 3; it must be a power of two"):
        dataclasses.replace(PRESETS["HBM2"], bank_groups=3)
    with pytest.raises(UserError, match="nRC = 0; it must be positive"):
        dataclasses.replace(PRESETS["HBM2"], nRC=0)
    with pytest.raises(UserError, match="a split ACT"):
        dataclasses.replace(PRESETS["HBM2"], nAAD=8)
    with pytest.raises(UserError, match="holds 2 bursts, not 4"):
        dataclasses.replace(PRESETS["HBM2"], row_bytes=64)
