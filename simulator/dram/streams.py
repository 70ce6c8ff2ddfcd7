"""What streams cost on a DRAM: the channel model is run once for a kind of stream, its efficiency is kept."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from simulator.dram.controller import serve
from simulator.dram.mapping import locate
from simulator.dram.timing import DramTiming, timing_of
from workloads.errors import UserError, unknown

KINDS = ("read", "write", "alternating", "random")

# The window measured, and what is let pass before it, in refresh intervals.
WINDOW, WARM_UP = 20, 2


@lru_cache(maxsize=256)
def stream_efficiency(
    device: str, kind: str, mapping: str = "interleaved", refresh: bool = True, batch: int = 1, seed: int = 0
) -> float:
    """Share of the cycles in which a data bus of the channel moves data, in the long run.

    kind: `read` and `write` go through consecutive bursts as fast as the queues take them; `alternating` does too, and
    reads `batch` bursts, writes `batch`, and so on; `random` reads bursts drawn uniformly from the whole channel,
    offered at the peak rate (`seed` draws them).
    Counted over twenty refresh intervals from the third on; longer windows differ by less than 0.4 %. Raises UserError
    for an unknown device, kind or mapping and for batch < 1.
    """
    if kind not in KINDS:
        raise unknown("DRAM stream", kind, KINDS)
    if batch < 1:
        raise UserError(f"DRAM stream {kind!r} of {device}: batch = {batch}; give 1 burst or more")
    return efficiency_of(timing_of(device), kind, mapping, refresh, batch, seed)


def efficiency_of(
    timing: DramTiming, kind: str, mapping: str, refresh: bool, batch: int = 1, seed: int = 0, window: int = WINDOW
) -> float:
    """stream_efficiency of a device of one's own, over `window` refresh intervals; nothing is kept."""
    # At peak rate these requests would just fill the intervals; slower ones last longer.
    requests = -(-(WARM_UP + window) * timing.nREFI * timing.pseudo_channels // timing.nBL)
    number = np.arange(requests)
    arrival = None
    if kind == "random":
        capacity = timing.banks * timing.rows * timing.bursts_per_row
        bursts = np.random.default_rng(seed).integers(0, capacity, requests)
        arrival = number * timing.nBL // timing.pseudo_channels
    else:
        bursts = number
    is_write = np.full(requests, kind == "write") if kind != "alternating" else number // batch % 2 == 1
    bank, row = locate(bursts, timing, mapping)
    finish = serve(timing, bank, row, is_write, arrival_cycles=arrival, refresh=refresh).finish_cycles
    counted = (finish > WARM_UP * timing.nREFI) & (finish <= (WARM_UP + window) * timing.nREFI)
    return float(np.count_nonzero(counted)) * timing.nBL / (window * timing.nREFI * timing.pseudo_channels)


@dataclass(frozen=True)
class Streaming:
    """A memory of `channels` equal channels, over which consecutive bursts spread evenly, as a port of tiles sees it.

    Efficiencies are those of long sequential streams, refresh included. A switch leaves the data bus idle for
    read_to_write_ns or write_to_read_ns; the first data of a stream after a pause come first_access_ns after the
    request. What the figures leave out: rows opened anew at the start of each tile (hidden by the queue while the port
    is busy) and refreshes that fall into a pause.
    """

    device: str
    channels: int
    peak_gbps: float  # of all channels
    read_efficiency: float
    write_efficiency: float
    first_access_ns: float
    read_to_write_ns: float
    write_to_read_ns: float
    burst_bytes: int  # of one data bus
    granularity_bytes: int  # one burst on every data bus: a transfer takes a whole number of these

    @property
    def turnaround_ns(self) -> float:
        """What one store between two loads costs beside its data: a switch there and one back."""
        return self.read_to_write_ns + self.write_to_read_ns

    def transfer_ns(self, size_bytes: int, write: bool = False) -> float:
        """Time on the data buses of a tile of `size_bytes`, rounded up to whole bursts on every bus."""
        moved = -(-size_bytes // self.granularity_bytes) * self.granularity_bytes
        return moved / (self.peak_gbps * (self.write_efficiency if write else self.read_efficiency))


def streaming(device: str, channels: int = 1, mapping: str = "interleaved", refresh: bool = True) -> Streaming:
    """`channels` channels of a preset. Raises UserError for unknown names and for channels < 1.

    first access = nRCD + nCL + nBL of a closed bank, and the ACT's further cycles on its bus. Idle data bus at a
    switch: nRTW + nCWL - nCL - nBL from read to write, nWTR_S + nCL from write to read.
    """
    if channels < 1:
        raise UserError(f"dram.channels = {channels} of {device}: a memory needs 1 channel or more")
    timing = timing_of(device)
    t = timing
    return Streaming(
        device=device,
        channels=channels,
        peak_gbps=t.peak_gbps * channels,
        read_efficiency=stream_efficiency(device, "read", mapping, refresh),
        write_efficiency=stream_efficiency(device, "write", mapping, refresh),
        first_access_ns=first_access_cycles(t) * t.clock_ns,
        read_to_write_ns=max(t.nRTW + t.nCWL - t.nCL - t.nBL, 0) * t.clock_ns,
        write_to_read_ns=(t.nWTR_S + t.nCL) * t.clock_ns,
        burst_bytes=t.burst_bytes,
        granularity_bytes=t.burst_bytes * t.pseudo_channels * channels,
    )


def first_access_cycles(timing: DramTiming) -> int:
    """From the request of a read to the last of its data, all banks closed and the channel idle."""
    on_the_bus = timing.act_bus_cycles - 1
    return on_the_bus + timing.nRCD + timing.nCL + timing.nBL
