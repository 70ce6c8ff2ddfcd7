"""The DRAM port as the engine sees it: cycles that a tile's load or store takes."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from simulator.machine.parts import Dram


@dataclass(frozen=True)
class Port:
    """A transfer takes whole bursts of `burst_bytes` at `bytes_per_cycle`; a store its own rate (slower: at most
    bytes_per_cycle) and the turnaround to writing and back."""

    bytes_per_cycle: float
    burst_bytes: int = 1
    turnaround_cycles: int = 0
    store_share: float = 1.0  # of bytes_per_cycle

    def cycles(self, number_of_bytes: np.ndarray) -> np.ndarray:
        """Of loads, int64."""
        bursts = -(-number_of_bytes // self.burst_bytes)
        return np.ceil(bursts * (self.burst_bytes / self.bytes_per_cycle)).astype(np.int64)

    def store_cycles(self, number_of_bytes: np.ndarray) -> np.ndarray:
        bursts = -(-number_of_bytes // self.burst_bytes)
        cycles = np.ceil(bursts * (self.burst_bytes / self.bytes_per_cycle / self.store_share)).astype(np.int64)
        return cycles + self.turnaround_cycles * (cycles > 0)


@lru_cache(maxsize=1024)
def port_of(dram: Dram, clock_mhz: float) -> Port:
    """generic: bandwidth x efficiency. A named device: what its bank model sustains on long streams, refresh included,
    in whole bursts on all channels, with its turnaround from reading to writing and back; the first access's latency,
    once a layer, is left out."""
    if dram.device == "generic":
        return Port(dram.bandwidth_gbps * 1e3 * dram.efficiency / clock_mhz)
    from simulator.dram.streams import streaming

    device = streaming(dram.device, dram.channels)
    share = min(device.write_efficiency / device.read_efficiency, 1.0)
    turnaround = math.ceil(device.turnaround_ns * clock_mhz / 1e3)
    rate = device.peak_gbps * 1e3 * device.read_efficiency / clock_mhz
    return Port(rate, device.granularity_bytes, turnaround, share)
