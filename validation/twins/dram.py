"""A slow, obvious twin of the DRAM channel: keeps every command and looks back through them each cycle."""

from simulator.dram.timing import DramTiming


def place(timing: DramTiming, bank: int) -> dict[str, int]:
    """Where a bank number lies."""
    group = bank // timing.banks_per_group
    stack = group // timing.bank_groups
    return {"bank": bank, "group": group, "stack": stack, "channel": stack // timing.stack_ids}


def required_gap(t: DramTiming, before: tuple[str, int], after: tuple[str, int]) -> int:
    """Cycles the second command must come after the first; 0 where they don't care. A command is (name, bank)."""
    (first, a), (second, b) = before, after
    one, two = place(t, a), place(t, b)
    if one["channel"] != two["channel"]:
        return 0
    same_bank, same_group, same_stack = (one[k] == two[k] for k in ("bank", "group", "stack"))
    gaps = [0]
    data_in = t.nCWL + t.nBL
    if first == "ACT":
        if second == "ACT":
            gaps += [t.nRRD_S, t.nRRD_L * same_group, t.nRC * same_bank]
        if second == "RD":
            gaps += [t.nRCD * same_bank]
        if second == "WR":
            gaps += [t.nRCDW * same_bank]
        if second == "PRE":
            gaps += [t.nRAS * same_bank]
        if second == "PREA":
            gaps += [t.nRAS]
        if second == "REF":
            gaps += [t.nRC]
    if first in ("RD", "WR"):
        to_precharge = t.nRTP if first == "RD" else data_in + t.nWR
        if second == "PRE":
            gaps += [to_precharge * same_bank]
        if second == "PREA":
            gaps += [to_precharge]
    if first == second and first in ("RD", "WR"):
        within = t.nCCD_L if first == "RD" else t.nCCD_L_WR
        gaps += [t.nBL, within * same_group, t.nCCD_S if same_stack else t.nCCD_R]
    if (first, second) == ("RD", "WR"):
        gaps += [t.nRTW]
    if (first, second) == ("WR", "RD"):
        gaps += [data_in + t.nWTR_S, (data_in + t.nWTR_L) * same_group]
    if first in ("PRE", "PREA") and second in ("PRE", "PREA"):
        gaps += [t.nPPD]
    if second == "ACT":
        gaps += [t.nRP * (first == "PRE" and same_bank), t.nRPA * (first == "PREA")]
    if first in ("PRE", "PREA") and second == "REF":
        gaps += [t.nRP]
    if first == "REF" and second in ("ACT", "PREA", "REF"):
        gaps += [t.nRFC]
    return max(gaps)


def bus_of(timing: DramTiming, name: str) -> tuple[int, int]:
    """Bus of a command and the cycles it takes there."""
    bus = {1: 0, 2: int(name not in ("RD", "WR")), 3: {"RD": 0, "WR": 0, "ACT": 1, "REF": 1}.get(name, 2)}
    cycles = {"ACT": timing.act_bus_cycles, "RD": timing.column_bus_cycles, "WR": timing.column_bus_cycles}
    return bus[timing.command_buses], cycles.get(name, 1)


class Twin:
    """Serves requests (bank, row, is_write, arrival), one cycle at a time."""

    def __init__(self, timing: DramTiming, requests: list[tuple[int, int, bool, int]], refresh: bool, depth: int):
        self.t, self.requests, self.refresh, self.depth = timing, requests, refresh, depth
        self.history: list[tuple[int, str, int, int]] = []
        self.open: dict[int, int] = {}
        self.reads: list[int] = []
        self.writes: list[int] = []
        self.opened: list[int] = []
        self.finish = [0] * len(requests)

    def allowed(self, name: str, bank: int, cycle: int) -> bool:
        """Whether the timing lets a command end its bus time at `cycle`."""
        longest = max(self.t.nRFC, self.t.nRC, 200)
        recent = [past for past in self.history if past[0] > cycle - longest]
        for at, past, where, _ in recent:
            gap = required_gap(self.t, (past, where), (name, bank))
            if gap > 0 and cycle - at < gap:
                return False
        channel = place(self.t, bank)["channel"]
        acts = [at for at, past, where, _ in recent if past == "ACT" and place(self.t, where)["channel"] == channel]
        return name != "ACT" or len(acts) < 4 or cycle - acts[-4] >= self.t.nFAW

    def next_command(self, request: int) -> str:
        bank, row, write, _ = self.requests[request]
        if bank not in self.open:
            return "ACT"
        return ("WR" if write else "RD") if self.open[bank] == row else "PRE"

    def candidates(self, queue: list[int], bus: int, now: int, may_activate: bool) -> list[int]:
        """Requests of a queue whose next command may start on the bus now, oldest first."""
        kept_open = {self.requests[i][0] for i in self.opened}
        found = []
        for i in sorted(queue):
            name, bank = self.next_command(i), self.requests[i][0]
            its_bus, cycles = bus_of(self.t, name)
            if its_bus != bus or (name == "PRE" and bank in kept_open) or (name == "ACT" and not may_activate):
                continue
            if self.allowed(name, bank, now + cycles - 1):
                found.append(i)
        return found

    def issue(self, name: str, bank: int, row: int, now: int) -> int:
        """Records the command; the cycle its bus is free again."""
        last = now + bus_of(self.t, name)[1] - 1
        self.history.append((last, name, bank, row))
        if name == "ACT":
            self.open[bank] = row
        elif name == "PRE":
            del self.open[bank]
        elif name == "PREA":
            channel = place(self.t, bank)["channel"]
            self.open = {b: r for b, r in self.open.items() if place(self.t, b)["channel"] != channel}
        return last + 1

    def serve_one(self, i: int, now: int) -> tuple[int, str]:
        """Issues a request's next command and moves the request on."""
        name, (bank, row, write, _) = self.next_command(i), self.requests[i]
        free = self.issue(name, bank, row, now)
        if name != "PRE":
            for queue in (self.reads, self.writes, self.opened):
                if i in queue:
                    queue.remove(i)
        if name == "ACT":
            self.opened.append(i)
        if name in ("RD", "WR"):
            self.finish[i] = free - 1 + (self.t.nCWL if write else self.t.nCL) + self.t.nBL
        return free, name

    def refresh_step(self, channel: int, bus: int, now: int) -> str | None:
        per_channel = self.t.banks // self.t.pseudo_channels
        mine = range(channel * per_channel, (channel + 1) * per_channel)
        name = "PREA" if any(b in self.open for b in mine) else "REF"
        if bus_of(self.t, name)[0] != bus or any(self.requests[i][0] in mine for i in self.opened):
            return None
        return name if self.allowed(name, mine[0], now) else None

    def run(self) -> list[int]:
        """Finish cycle of each request."""
        t = self.t
        free = [0] * t.command_buses
        pending: list[int] = []  # pseudo-channels to be refreshed, in order
        entered, draining, half_by, now = 0, False, None, 0
        while not all(self.finish):
            while entered < len(self.requests) and self.requests[entered][3] <= now:
                queue = self.writes if self.requests[entered][2] else self.reads
                if len(queue) == self.depth:
                    break
                queue.append(entered)
                entered += 1
            if self.refresh and now and now % t.nREFI == 0:
                pending += range(t.pseudo_channels)
            if not draining and (len(self.writes) > 0.8 * self.depth or not self.reads):
                draining = True
            elif draining and len(self.writes) < 0.2 * self.depth and self.reads:
                draining = False
            for bus in range(t.command_buses):
                if free[bus] > now:
                    continue
                name = None
                if half_by is None or now < half_by:
                    ready = self.candidates(self.opened, bus, now, half_by is None)
                    if not ready and not pending:
                        ready = self.candidates(self.writes if draining else self.reads, bus, now, half_by is None)
                    if ready:
                        free[bus], name = self.serve_one(ready[0], now)
                    elif pending:
                        name = self.refresh_step(pending[0], bus, now)
                        if name:
                            free[bus] = self.issue(name, pending[0] * (t.banks // t.pseudo_channels), 0, now)
                            if name == "REF":
                                pending.pop(0)
                if name is None and half_by is not None:
                    half_by, free[bus] = None, now + 1
                elif name == "ACT" and t.nAAD > 1:
                    half_by = now + t.nAAD
            now += 1
        return self.finish
