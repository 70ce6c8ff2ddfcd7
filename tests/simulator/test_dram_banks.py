"""Rules of a DRAM channel: every constraint one cycle before and at the cycle; the controller against its slow twin."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.dram import PRESETS, serve
from simulator.dram.banks import COMMANDS, compiled, earliest, idle, issue
from simulator.dram.timing import DramTiming
from validation.twins.dram import Twin, bus_of, place, required_gap
from workloads.errors import UserError

DEVICES = list(PRESETS)
START = 100


def probe(timing: DramTiming, commands: list[tuple[str, int, int]], name: str, bank: int) -> int:
    """First cycle at which `name` is allowed on `bank` after (command, bank, cycle) each."""
    state, rules = idle(timing), compiled(timing)
    for command, where, cycle in commands:
        issue(state, rules, COMMANDS.index(command), where, 7, cycle)
    return earliest(state, COMMANDS.index(name), bank)


def neighbours(t: DramTiming) -> dict[str, int]:
    """A bank at each distance from bank 0, where the device has one."""
    found = {"same bank": 0, "same group": 1, "other group": t.banks_per_group}
    if t.stack_ids > 1:
        found["other stack"] = t.banks_per_group * t.bank_groups
    if t.pseudo_channels > 1:
        found["other channel"] = t.banks // 2
    return found


# (before, after, where the second goes, cycles); the largest rule that holds there, as the standards state them.
CONSTRAINTS = [
    ("ACT", "ACT", "same bank", lambda t: t.nRC),
    ("ACT", "ACT", "same group", lambda t: t.nRRD_L),
    ("ACT", "ACT", "other group", lambda t: t.nRRD_S),
    ("ACT", "ACT", "other stack", lambda t: t.nRRD_S),
    ("ACT", "RD", "same bank", lambda t: t.nRCD),
    ("ACT", "WR", "same bank", lambda t: t.nRCDW),
    ("ACT", "PRE", "same bank", lambda t: t.nRAS),
    ("ACT", "PREA", "other group", lambda t: t.nRAS),
    ("ACT", "REF", "other group", lambda t: t.nRC),
    ("PRE", "ACT", "same bank", lambda t: t.nRP),
    ("PRE", "PRE", "other group", lambda t: t.nPPD),
    ("PRE", "REF", "other group", lambda t: t.nRP),
    ("PREA", "ACT", "other group", lambda t: t.nRPA),
    ("PREA", "REF", "other group", lambda t: t.nRP),
    ("RD", "PRE", "same bank", lambda t: t.nRTP),
    ("RD", "PREA", "other group", lambda t: t.nRTP),
    ("WR", "PRE", "same bank", lambda t: t.nCWL + t.nBL + t.nWR),
    ("WR", "PREA", "other group", lambda t: t.nCWL + t.nBL + t.nWR),
    ("RD", "RD", "same bank", lambda t: t.nCCD_L),
    ("RD", "RD", "same group", lambda t: t.nCCD_L),
    ("RD", "RD", "other group", lambda t: t.nCCD_S),
    ("RD", "RD", "other stack", lambda t: t.nCCD_R),
    ("WR", "WR", "same group", lambda t: t.nCCD_L_WR),
    ("WR", "WR", "other group", lambda t: t.nCCD_S),
    ("WR", "WR", "other stack", lambda t: t.nCCD_R),
    ("RD", "WR", "same group", lambda t: t.nRTW),
    ("RD", "WR", "other group", lambda t: t.nRTW),
    ("WR", "RD", "same group", lambda t: t.nCWL + t.nBL + t.nWTR_L),
    ("WR", "RD", "other group", lambda t: t.nCWL + t.nBL + t.nWTR_S),
    ("WR", "RD", "other stack", lambda t: t.nCWL + t.nBL + t.nWTR_S),
    ("REF", "ACT", "other group", lambda t: t.nRFC),
    ("REF", "REF", "other group", lambda t: t.nRFC),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("before", "after", "where", "cycles"), CONSTRAINTS)
def test_a_command_is_refused_one_cycle_before_and_allowed_at_the_cycle(device, before, after, where, cycles):
    timing = PRESETS[device]
    bank = neighbours(timing).get(where)
    if bank is None:
        assert where == "other stack"  # the only distance some devices don't have
        return
    first = probe(timing, [(before, 0, START)], after, bank)
    at = START + cycles(timing)
    assert not first <= at - 1
    assert first <= at


@pytest.mark.parametrize("device", DEVICES)
def test_a_fifth_activate_waits_for_the_window_of_four(device):
    timing = PRESETS[device]
    # one cycle below a quarter of the window apart, if nRRD_S lets them, so that the window is what binds
    wide = dataclasses.replace(timing, nFAW=4 * timing.nRRD_L + 3)
    banks = [group * timing.banks_per_group for group in range(4)]
    acts = [("ACT", bank, START + i * timing.nRRD_L) for i, bank in enumerate(banks)]
    assert probe(wide, acts, "ACT", 1) == START + wide.nFAW
    assert probe(wide, acts[:3], "ACT", 1) < START + wide.nFAW


@pytest.mark.parametrize("device", ["HBM2", "HBM3"])
@pytest.mark.parametrize("before", COMMANDS)
@pytest.mark.parametrize("after", COMMANDS)
def test_pseudo_channels_share_nothing_but_the_command_bus(device, before, after):
    timing = PRESETS[device]
    assert probe(timing, [(before, 0, START)], after, neighbours(timing)["other channel"]) < 0


def small(device: str, refresh_every: int = 300) -> DramTiming:
    """A preset with a short refresh period, so that a few requests meet refreshes."""
    return dataclasses.replace(PRESETS[device], nRFC=40, nREFI=refresh_every)


requests = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 2), st.booleans(), st.sampled_from([0, 0, 0, 1, 3, 40])),
    min_size=1,
    max_size=40,
)


def as_arrays(timing: DramTiming, drawn: list) -> tuple[np.ndarray, ...]:
    """Eight banks spread over the channel, small rows, gaps summed to arrivals."""
    stride = timing.banks // 8
    bank = np.array([b * stride + (b % 2 if stride > 1 else 0) for b, *_ in drawn])
    row = np.array([r for _, r, *_ in drawn])
    write = np.array([w for _, _, w, _ in drawn])
    return bank, row, write, np.cumsum([gap for *_, gap in drawn])


@pytest.mark.parametrize("device", DEVICES)
@given(drawn=requests, refresh=st.booleans(), depth=st.sampled_from([2, 5, 32]))
@settings(max_examples=25, deadline=None)
def test_the_controller_agrees_with_the_slow_twin_to_the_cycle(device, drawn, refresh, depth):
    timing = small(device)
    bank, row, write, arrival = as_arrays(timing, drawn)
    served = serve(timing, bank, row, write, arrival, refresh, depth, log=True)
    twin = Twin(
        timing, list(zip(bank.tolist(), row.tolist(), write.tolist(), arrival.tolist(), strict=True)), refresh, depth
    )
    assert served.finish_cycles.tolist() == twin.run()
    log = [(int(c), COMMANDS[name], int(b)) for c, name, b, _ in served.log]
    assert log == [entry[:3] for entry in twin.history]


def check_log(timing: DramTiming, log: np.ndarray) -> dict[str, int]:
    """Every pair of commands against the gaps of the standards, and the protocol; counts of the commands."""
    open_rows: dict[int, int] = {}
    buses: dict[int, int] = {}
    # an ACT of two cycles is logged before a one-cycle command of another bus that ends first
    commands = sorted(
        ((int(at), COMMANDS[name], int(bank), int(row)) for at, name, bank, row in log), key=lambda c: c[0]
    )
    acts: dict[int, list[int]] = {}
    for n, (at, name, bank, row) in enumerate(commands):
        bus, cycles = bus_of(timing, name)
        assert at - cycles >= buses.get(bus, -1)
        buses[bus] = at
        for earlier, past, where, _ in reversed(commands[:n]):
            if at - earlier > max(timing.nRFC, 200):
                break
            assert at - earlier >= required_gap(timing, (past, where), (name, bank)), (past, where, name, bank)
        channel = place(timing, bank)["channel"]
        if name == "ACT":
            assert bank not in open_rows
            open_rows[bank] = row
            acts.setdefault(channel, []).append(at)
            assert len(acts[channel]) < 5 or at - acts[channel][-5] >= timing.nFAW
        elif name == "PRE":
            del open_rows[bank]
        elif name in ("RD", "WR"):
            assert open_rows[bank] == row
        else:
            mine = [b for b in open_rows if place(timing, b)["channel"] == channel]
            assert mine if name == "PREA" else not mine
            for b in mine:
                del open_rows[b]
    return {name: sum(entry[1] == name for entry in commands) for name in COMMANDS}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", range(3))
def test_a_long_log_keeps_every_constraint_and_the_protocol(device, seed):
    timing = small(device, refresh_every=400)
    rng = np.random.default_rng(seed)
    n = 500
    bank, row, write = rng.integers(0, timing.banks, n), rng.integers(0, 3, n), rng.random(n) < 0.4
    served = serve(timing, bank, row, write, log=True)
    count = check_log(timing, served.log)
    assert (count["RD"], count["WR"]) == (n - write.sum(), write.sum())
    assert count["ACT"] >= len(set(bank.tolist()))
    refreshes = served.log[served.log[:, 1] == COMMANDS.index("REF"), 0]
    intervals = int(served.log[:, 0].max()) // timing.nREFI
    assert abs(len(refreshes) - intervals * timing.pseudo_channels) <= timing.pseudo_channels


def test_requests_that_make_no_sense_are_refused():
    timing = PRESETS["HBM2"]
    with pytest.raises(UserError, match=r"banks 0\.\.31, rows from 0; given banks 0\.\.32"):
        serve(timing, np.array([0, 32]), np.zeros(2), np.zeros(2))
    with pytest.raises(UserError, match="2 banks, 1 rows"):
        serve(timing, np.array([0, 1]), np.zeros(1), np.zeros(2))
    with pytest.raises(UserError, match="queue of 1"):
        serve(timing, np.array([0]), np.zeros(1), np.zeros(1), queue_depth=1)


def test_no_requests_take_no_time():
    served = serve(PRESETS["HBM3"], np.zeros(0), np.zeros(0), np.zeros(0), log=True)
    assert served.finish_cycles.shape == (0,)
    assert served.log.shape == (0, 4)
