"""A memory controller for one channel: takes requests in order, issues commands first-ready first, refreshes.

The policy, which is that of Ramulator 2.1's FR-FCFS controller with open rows:
  * reads and writes wait in queues of their own; the source stalls, in order, where its queue is full;
  * reads go first; writes are drained when their queue is over 80 % full, or no read waits, until it is below 20 %;
  * of the requests whose next command (PRE, ACT, RD or WR) the timing allows, the oldest gets the bus, row hit or not;
  * a request that opened a row leaves its queue and goes before all others; nobody closes the row before it is served;
  * the second half of a split ACT (LPDDR5) goes out when nothing else may, after nAAD at the latest, before a next ACT;
  * every nREFI a refresh is due: no request starts, rows are closed, REF goes out, one pseudo-channel after the other.
Left out: forwarding of written data to reads, ranks, power-down, per-bank refresh, refreshes put off or pulled in.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from simulator.dram.banks import ACT, CLOSED, COMMANDS, PRE, PREA, RD, REF, WR, compiled, earliest, idle, issue
from simulator.dram.timing import DramTiming
from workloads.errors import UserError

QUEUE_DEPTH = 32
FAR = 1 << 60
# The queues.
OPENED, READS, WRITES = range(3)


class Served(NamedTuple):
    """finish_cycles (n,) int64: the cycle after the last data of each request, from cycle 0 when the first may arrive.

    log (commands, 4) int64, empty unless asked for, in order of first bus cycle: last bus cycle, command (its place in
    banks.COMMANDS), bank, row.
    """

    finish_cycles: np.ndarray
    log: np.ndarray


class Buses(NamedTuple):
    """For each command (6,) int64: its bus, and the cycles it takes there. halves = nAAD of a split ACT, else 1."""

    bus: np.ndarray
    cycles: np.ndarray
    number: int
    halves: int


def buses_of(timing: DramTiming) -> Buses:
    """One bus for all; or columns and rows apart; or precharges apart from them too (the falling edge in HBM3)."""
    bus = np.zeros(len(COMMANDS), dtype=np.int64)
    if timing.command_buses >= 2:
        bus[[ACT, PRE, PREA, REF]] = 1
    if timing.command_buses == 3:
        bus[[PRE, PREA]] = 2
    cycles = np.ones(len(COMMANDS), dtype=np.int64)
    cycles[ACT] = timing.act_bus_cycles
    cycles[[RD, WR]] = timing.column_bus_cycles
    return Buses(bus, cycles, timing.command_buses, timing.nAAD)


def serve(
    timing: DramTiming,
    bank: np.ndarray,
    row: np.ndarray,
    is_write: np.ndarray,
    arrival_cycles: np.ndarray | None = None,
    refresh: bool = True,
    queue_depth: int = QUEUE_DEPTH,
    log: bool = False,
) -> Served:
    """Serves the requests, (n,) each, in the order given: bank and row (see mapping.locate), read or write.

    arrival_cycles: when each may enter a queue, rising; None = all at cycle 0, so that the queues alone hold them back.

    Raises UserError for arrays of different lengths, banks the channel does not have, negative rows or a queue below 2.
    """
    bank, row = np.ascontiguousarray(bank, dtype=np.int64), np.ascontiguousarray(row, dtype=np.int64)
    write = np.ascontiguousarray(is_write, dtype=np.bool_)
    arrival = (
        np.zeros(len(bank), np.int64) if arrival_cycles is None else np.ascontiguousarray(arrival_cycles, np.int64)
    )
    if not len(bank) == len(row) == len(write) == len(arrival):
        lengths = f"{len(bank)} banks, {len(row)} rows, {len(write)} kinds, {len(arrival)} arrivals"
        raise UserError(f"DRAM {timing.name}: requests need arrays of one length; given {lengths}")
    if len(bank) and (bank.min() < 0 or bank.max() >= timing.banks or row.min() < 0):
        given = f"banks {bank.min()}..{bank.max()}, rows from {row.min()}"
        raise UserError(f"DRAM {timing.name}: a channel has banks 0..{timing.banks - 1}, rows from 0; given {given}")
    if queue_depth < 2:
        raise UserError(f"DRAM {timing.name}: a queue of {queue_depth} can't hold a row's accesses; give 2 or more")
    finish = np.zeros(len(bank), dtype=np.int64)
    period = timing.nREFI if refresh else FAR
    commands = np.empty((4 * len(bank) + 64 if log else 0, 4), dtype=np.int64)
    while True:
        device = (idle(timing), compiled(timing), buses_of(timing), empty_queues(timing, queue_depth))
        due, free = np.zeros(timing.pseudo_channels, np.int64), np.zeros(timing.command_buses, np.int64)
        count = _serve(*device, due, free, bank, row, write, arrival, period, queue_depth, commands, finish)
        if not log or count <= len(commands):
            break
        commands = np.empty((count, 4), dtype=np.int64)  # many refreshes: once more with room for all
    finish += np.where(write, timing.nCWL, timing.nCL) + timing.nBL
    return Served(finish, commands[:count])


class Queues(NamedTuple):
    """Request numbers waiting: entries (3, places) int64, of which waiting (3,) are in use, each row in order of entry.

    Row OPENED holds requests that opened a row; pinned (banks,) counts them by bank, held (pseudo-channels,) too.
    """

    entries: np.ndarray
    waiting: np.ndarray
    pinned: np.ndarray
    held: np.ndarray


def empty_queues(timing: DramTiming, depth: int) -> Queues:
    entries = np.zeros((3, max(depth, timing.banks)), np.int64)
    pinned, held = np.zeros(timing.banks, np.int64), np.zeros(timing.pseudo_channels, np.int64)
    return Queues(entries, np.zeros(3, np.int64), pinned, held)


@njit(cache=True, nogil=True, error_model="numpy")
def _enter(queues, arrival, write, entered, depth, now):
    """Lets requests into their queues, in order, as far as they arrived and fit; (first one outside, its time)."""
    while entered < arrival.shape[0]:
        if arrival[entered] > now:
            return entered, arrival[entered]
        kind = WRITES if write[entered] else READS
        if queues.waiting[kind] == depth:
            break
        queues.entries[kind, queues.waiting[kind]] = entered
        queues.waiting[kind] += 1
        entered += 1
    return entered, FAR


@njit(cache=True, nogil=True, error_model="numpy")
def _drains(queues, depth, draining):
    """Whether writes go next."""
    if draining:
        return queues.waiting[WRITES] >= 0.2 * depth or queues.waiting[READS] == 0
    return queues.waiting[WRITES] > 0.8 * depth or queues.waiting[READS] == 0


@njit(cache=True, nogil=True, error_model="numpy")
def _wanted(state, bank, row, write):
    """The next command a request needs."""
    if state.open_row[bank] == row:
        return WR if write else RD
    return ACT if state.open_row[bank] == CLOSED else PRE


@njit(cache=True, nogil=True, error_model="numpy")
def _oldest_ready(state, buses, queues, kind, bank, row, write, bus, now, activates):
    """(place, command, wake): the oldest of a queue whose next command may start on `bus` now; else -1, -1 and when.

    `activates`: whether an ACT may go out (not while the second half of another is due).
    """
    best, chosen, wake = -1, -1, FAR
    for place in range(queues.waiting[kind]):
        i = queues.entries[kind, place]
        if best >= 0 and i > queues.entries[kind, best]:
            continue
        command = _wanted(state, bank[i], row[i], write[i])
        if buses.bus[command] != bus or (command == PRE and queues.pinned[bank[i]] > 0):
            continue
        if command == ACT and not activates:
            continue
        start = earliest(state, command, bank[i]) - buses.cycles[command] + 1
        if start <= now:
            best, chosen = place, command
        else:
            wake = min(wake, start)
    return best, chosen, wake


@njit(cache=True, nogil=True, error_model="numpy")
def _refresh(state, buses, queues, channel, bus, now):
    """(command, wake): the step towards the refresh of a pseudo-channel that may start on `bus` now, or -1 and when."""
    command = PREA if state.open_banks[channel] > 0 else REF
    if buses.bus[command] != bus or queues.held[channel] > 0:
        return -1, FAR
    first_bank = channel * (state.bank.shape[0] // state.channel.shape[0])
    start = earliest(state, command, first_bank) - buses.cycles[command] + 1
    return (command, FAR) if start <= now else (-1, start)


@njit(cache=True, nogil=True, error_model="numpy")
def _leave(queues, kind, place, command, bank, channel):
    """The request at `place` got its command: it goes to OPENED after ACT, away after RD or WR, stays after PRE."""
    if command == PRE:
        return
    request = queues.entries[kind, place]
    for k in range(place, queues.waiting[kind] - 1):
        queues.entries[kind, k] = queues.entries[kind, k + 1]
    queues.waiting[kind] -= 1
    change = 0
    if command == ACT:
        queues.entries[OPENED, queues.waiting[OPENED]] = request
        queues.waiting[OPENED] += 1
        change = 1
    elif kind == OPENED:
        change = -1
    queues.pinned[bank] += change
    queues.held[channel] += change


@njit(cache=True, nogil=True, error_model="numpy")
def _serve(state, rules, buses, queues, due, free, bank, row, write, arrival, period, depth, log, issued):
    """Fills issued (n,) with the last bus cycle of each request's RD or WR; returns how many commands there were.

    log (places, 4) takes the first of them: last bus cycle, command, bank, row.
    """
    channels = state.channel.shape[0]
    banks = state.bank.shape[0] // channels
    next_refresh, entered, done, now, draining, commands = period, 0, 0, 0, False, 0
    second_by = FAR  # when the second half of a split ACT must go out at the latest
    while done < bank.shape[0]:
        entered, wake = _enter(queues, arrival, write, entered, depth, now)
        if now >= next_refresh:
            for pending in range(channels):
                due[pending] += 1
            next_refresh += period
        wake = min(wake, next_refresh, second_by)
        draining = _drains(queues, depth, draining)
        busy = False
        for bus in range(buses.number):
            if free[bus] > now:
                wake = min(wake, free[bus])
                continue
            channel = 0  # the pseudo-channel to be refreshed first
            for other in range(1, channels):
                if due[other] > due[channel]:
                    channel = other
            place, command, kind, target_row = -1, -1, OPENED, 0
            for turn in range(2 if second_by > now else 0):  # requests with open rows; refresh, or else the others
                if turn == 1:
                    if due[channel] > 0:
                        command, soon = _refresh(state, buses, queues, channel, bus, now)
                        wake = min(wake, soon)
                        break
                    kind = WRITES if draining else READS
                place, command, soon = _oldest_ready(
                    state, buses, queues, kind, bank, row, write, bus, now, second_by == FAR
                )
                wake = min(wake, soon)
                if place >= 0:
                    break
            if command < 0:
                if second_by < FAR:
                    second_by, free[bus], busy = FAR, now + 1, True
                continue
            busy = True
            last = now + buses.cycles[command] - 1
            free[bus] = last + 1
            target = channel * banks
            if place >= 0:
                request = queues.entries[kind, place]
                target, target_row = bank[request], row[request]
                _leave(queues, kind, place, command, target, target // banks)
                if command in (RD, WR):
                    issued[request] = last
                    done += 1
            issue(state, rules, command, target, target_row, last)
            if command == REF:
                due[channel] -= 1
            elif command == ACT and buses.halves > 1:
                second_by = last + buses.halves
            if commands < log.shape[0]:
                log[commands, 0], log[commands, 1] = last, command
                log[commands, 2], log[commands, 3] = target, target_row
            commands += 1
        now = now + 1 if busy else max(now + 1, wake)
    return commands
