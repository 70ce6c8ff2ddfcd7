"""The rules of one channel: which command may follow which, where, after how many cycles.

The rules are a table derived from the timing; the state of the device is, for every bank, bank group and
pseudo-channel, the first cycle at which each command is allowed, and the open rows.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from simulator.dram.timing import DramTiming

# Commands. PREA closes all banks of a pseudo-channel, REF refreshes them all.
ACT, PRE, RD, WR, PREA, REF = range(6)
COMMANDS = ("ACT", "PRE", "RD", "WR", "PREA", "REF")
# Where a rule holds: between two commands to the same ...
BANK, GROUP, STACK, CHANNEL, OTHER_STACK = range(5)

CLOSED = -1
NEVER = -(1 << 60)


class Rule(NamedTuple):
    """After `before`, `after` waits `cycles` when both go to the same `level` (CHANNEL = pseudo-channel)."""

    before: int
    after: int
    level: int
    cycles: int


class State(NamedTuple):
    """int64 arrays: the first allowed cycle of each command at each level, the open rows, the last four ACTs."""

    bank: np.ndarray  # (banks, 6)
    group: np.ndarray  # (groups, 6)
    stack: np.ndarray  # (stack ids, 6)
    channel: np.ndarray  # (pseudo-channels, 6)
    open_row: np.ndarray  # (banks,), CLOSED where none
    open_banks: np.ndarray  # (pseudo-channels,)
    acts: np.ndarray  # (pseudo-channels, 4), oldest first


class Rules(NamedTuple):
    """The table for the compiled code: (n, 4) int64 rules sorted by `before`, (7,) first rule of each, and nFAW."""

    table: np.ndarray
    first: np.ndarray
    four_activates: int


def rules_of(timing: DramTiming) -> list[Rule]:
    """Every rule but nFAW, which counts ACTs (JESD79-4, JESD209-5, JESD235, JESD238; as Ramulator 2 lists them).

    RD and WR in different pseudo-channels never wait for each other; ranks are not modelled.
    """
    t = timing
    write_end = t.nCWL + t.nBL  # from WR to the end of its data
    return [
        Rule(ACT, ACT, BANK, t.nRC),
        Rule(ACT, RD, BANK, t.nRCD),
        Rule(ACT, WR, BANK, t.nRCDW),
        Rule(ACT, PRE, BANK, t.nRAS),
        Rule(PRE, ACT, BANK, t.nRP),
        Rule(RD, PRE, BANK, t.nRTP),
        Rule(WR, PRE, BANK, write_end + t.nWR),
        Rule(RD, RD, GROUP, t.nCCD_L),
        Rule(WR, WR, GROUP, t.nCCD_L_WR),
        Rule(WR, RD, GROUP, write_end + t.nWTR_L),
        Rule(ACT, ACT, GROUP, t.nRRD_L),
        Rule(RD, RD, CHANNEL, t.nBL),
        Rule(WR, WR, CHANNEL, t.nBL),
        Rule(RD, RD, STACK, t.nCCD_S),
        Rule(WR, WR, STACK, t.nCCD_S),
        Rule(RD, RD, OTHER_STACK, t.nCCD_R),
        Rule(WR, WR, OTHER_STACK, t.nCCD_R),
        Rule(RD, WR, CHANNEL, t.nRTW),
        Rule(WR, RD, CHANNEL, write_end + t.nWTR_S),
        Rule(ACT, ACT, CHANNEL, t.nRRD_S),
        *(Rule(before, after, CHANNEL, t.nPPD) for before in (PRE, PREA) for after in (PRE, PREA)),
        Rule(ACT, PREA, CHANNEL, t.nRAS),
        Rule(RD, PREA, CHANNEL, t.nRTP),
        Rule(WR, PREA, CHANNEL, write_end + t.nWR),
        Rule(PREA, ACT, CHANNEL, t.nRPA),
        Rule(ACT, REF, CHANNEL, t.nRC),
        Rule(PRE, REF, CHANNEL, t.nRP),
        Rule(PREA, REF, CHANNEL, t.nRP),
        *(Rule(REF, after, CHANNEL, t.nRFC) for after in (ACT, PREA, REF)),
    ]


def compiled(timing: DramTiming) -> Rules:
    """rules_of as arrays."""
    table = np.array(sorted(rules_of(timing)), dtype=np.int64)
    return Rules(table, np.searchsorted(table[:, 0], np.arange(len(COMMANDS) + 1)), timing.nFAW)


def idle(timing: DramTiming) -> State:
    """A channel with all banks closed, on which nothing has happened."""
    channels = timing.pseudo_channels
    stacks = channels * timing.stack_ids
    return State(
        bank=np.full((timing.banks, len(COMMANDS)), NEVER),
        group=np.full((stacks * timing.bank_groups, len(COMMANDS)), NEVER),
        stack=np.full((stacks, len(COMMANDS)), NEVER),
        channel=np.full((channels, len(COMMANDS)), NEVER),
        open_row=np.full(timing.banks, CLOSED),
        open_banks=np.zeros(channels, dtype=np.int64),
        acts=np.full((channels, 4), NEVER),
    )


@njit(cache=True, nogil=True, error_model="numpy")
def earliest(state: State, command: int, bank: int) -> int:
    """First cycle at which the timing allows `command` on `bank` (any of its pseudo-channel for PREA and REF).

    Whether the row that is open fits the command is the caller's business.
    """
    group = bank // (state.bank.shape[0] // state.group.shape[0])
    stack = bank // (state.bank.shape[0] // state.stack.shape[0])
    channel = bank // (state.bank.shape[0] // state.channel.shape[0])
    here = max(state.bank[bank, command], state.group[group, command])
    return max(here, state.stack[stack, command], state.channel[channel, command])


@njit(cache=True, nogil=True, error_model="numpy")
def issue(state: State, rules: Rules, command: int, bank: int, row: int, cycle: int) -> None:
    """Executes `command`, whose last bus cycle is `cycle`: moves open rows and every first allowed cycle."""
    group = bank // (state.bank.shape[0] // state.group.shape[0])
    stack = bank // (state.bank.shape[0] // state.stack.shape[0])
    banks = state.bank.shape[0] // state.channel.shape[0]
    channel = bank // banks
    for i in range(rules.first[command], rules.first[command + 1]):
        after, level, ready = rules.table[i, 1], rules.table[i, 2], cycle + rules.table[i, 3]
        if level == BANK:
            state.bank[bank, after] = max(state.bank[bank, after], ready)
        elif level == GROUP:
            state.group[group, after] = max(state.group[group, after], ready)
        elif level == STACK:
            state.stack[stack, after] = max(state.stack[stack, after], ready)
        elif level == CHANNEL:
            state.channel[channel, after] = max(state.channel[channel, after], ready)
        else:
            stacks = state.stack.shape[0] // state.channel.shape[0]
            for other in range(channel * stacks, (channel + 1) * stacks):
                if other != stack:
                    state.stack[other, after] = max(state.stack[other, after], ready)
    if command == ACT:
        for k in range(3):
            state.acts[channel, k] = state.acts[channel, k + 1]
        state.acts[channel, 3] = cycle
        state.channel[channel, ACT] = max(state.channel[channel, ACT], state.acts[channel, 0] + rules.four_activates)
        state.open_row[bank] = row
        state.open_banks[channel] += 1
    elif command == PRE:
        state.open_row[bank] = CLOSED
        state.open_banks[channel] -= 1
    elif command == PREA:
        for other in range(channel * banks, (channel + 1) * banks):
            state.open_row[other] = CLOSED
        state.open_banks[channel] = 0
