"""The DRAM model against closed forms and against Ramulator 2.1.

    python -m validation.sources.dram_laws

Ramulator's figures were measured with its commit c5b1c3a: FR-FCFS, open rows, queues of 32, mapping MOP4CLXOR, streams
of 16 MiB, with refresh and without; DDR4_3200AA x8 8 Gb, HBM2_2000Mbps 4 Gb. They are in this file because that program
is no dependency; the model's timings come from its presets and its controller follows the same policy, so agreement
shows that the rules were understood, not that either is silicon. GDDR6, LPDDR5, DDR5 and HBM3 are checked against
closed forms only.

Random reads of DDR4 without refresh run in one of two rhythms, by chance of the first requests: a window of nFAW = 34
for four activates (0.4706 of the peak), or of 35 (0.457), in which each fifth activate meets a read that goes first.
With refresh both programs are in the second.
"""

import numpy as np

from simulator.dram import PRESETS, serve, stream_efficiency
from simulator.dram.streams import efficiency_of, first_access_cycles
from simulator.dram.timing import DramTiming

RAMULATOR = "Ramulator 2.1 (c5b1c3a)"

# (device, stream, refresh, share of the peak)
MEASURED = [
    ("DDR4-3200", "read", True, 0.939),
    ("DDR4-3200", "read", False, 0.989),
    ("DDR4-3200", "write", True, 0.925),
    ("DDR4-3200", "write", False, 0.977),
    ("DDR4-3200", "alternating", True, 0.760),
    ("DDR4-3200", "alternating", False, 0.802),
    ("DDR4-3200", "random", True, 0.434),
    ("DDR4-3200", "random", False, 0.470),
    ("HBM2", "read", True, 0.893),
    ("HBM2", "read", False, 0.967),
    ("HBM2", "write", True, 0.887),
    ("HBM2", "write", False, 0.960),
    ("HBM2", "alternating", True, 0.569),
    ("HBM2", "alternating", False, 0.620),
    ("HBM2", "random", True, 0.308),
    ("HBM2", "random", False, 0.333),
]
ROW_MAPPING = ("DDR4-3200", 0.615)  # sequential reads, a whole row of one bank after the other, with refresh


def rows() -> list[dict]:
    """One dict a comparison: device, case, model, expected, error (model / expected - 1), reference."""
    found = [
        row(
            device, f"{kind}, refresh {'on' if refresh else 'off'}", efficiency(device, kind, refresh), share, RAMULATOR
        )
        for device, kind, refresh, share in MEASURED
    ]
    device, share = ROW_MAPPING
    by_rows = stream_efficiency(device, "read", mapping="row")
    found.append(row(device, "read, refresh on, mapping row", by_rows, share, RAMULATOR))
    for timing in PRESETS.values():
        found += laws(timing)
    return found


def row(device: str, case: str, model: float, expected: float, reference: str) -> dict:
    return dict(
        device=device, case=case, model=model, expected=expected, error=model / expected - 1, reference=reference
    )


def efficiency(device: str, kind: str, refresh: bool) -> float:
    return stream_efficiency(device, kind, refresh=refresh)


def laws(t: DramTiming) -> list[dict]:
    """The closed forms a device must follow."""
    kept, free = (efficiency_of(t, "read", "interleaved", refresh, window=80) for refresh in (True, False))
    activates = t.nBL / max(t.nFAW / 4, t.nRRD_S)
    return [
        row(t.name, "lone read of a closed bank, cycles", one_bank(t, 1, False), first_access_cycles(t),
            "nRCD + nCL + nBL, and 1 where ACT takes two bus cycles"),
        row(t.name, "a new row of one bank per access, cycles", pace(t, 1000, False), t.nRC, "nRC"),
        row(t.name, "the same with refresh, cycles", pace(t, 60 * t.nREFI // t.nRC, True),
            t.nRC / (1 - t.nRFC / t.nREFI), "nRC / (1 - nRFC/nREFI)"),
        row(t.name, "read, refresh on / off", kept / free, 1 - (t.nRTP + t.nRP + t.nRFC + t.nRCD) / t.nREFI,
            "1 - (nRTP + nRP + nRFC + nRCD)/nREFI"),
        row(t.name, "random reads, refresh off", efficiency(t.name, "random", False), *random_bound(t, activates)),
    ]  # fmt: skip


def random_bound(t: DramTiming, activates: float) -> tuple[float, str]:
    """What binds random reads: activates, or the ACT and PRE of each access on a row bus that pseudo-channels share."""
    if t.command_buses == 2:
        bus = t.nBL / (t.pseudo_channels * (t.act_bus_cycles + 1))
        if bus < activates:
            return bus, "nBL / row-bus cycles of ACT and PRE of both pseudo-channels"
    return activates, "nBL / max(nFAW/4, nRRD_S)"


def one_bank(t: DramTiming, n: int, refresh: bool) -> int:
    """Cycle at which the n-th read of a new row of one bank has its data."""
    none = np.zeros(n, dtype=int)
    return int(serve(t, none, np.arange(n) % t.rows, none, refresh=refresh).finish_cycles[-1])


def pace(t: DramTiming, n: int, refresh: bool) -> float:
    return (one_bank(t, n, refresh) - one_bank(t, 1, refresh)) / (n - 1)


def main() -> None:
    print(f"{'device':<13}{'case':<43}{'model':>9}{'expected':>10}{'error':>9}  reference")
    for found in rows():
        figures = f"{found['model']:>9.4g}{found['expected']:>10.4g}{found['error']:>+9.2%}"
        print(f"{found['device']:<13}{found['case']:<43}{figures}  {found['reference']}")
    print("\nshare of the peak, refresh on, mapping interleaved")
    kinds = ("read", "write", "alternating", "random")
    print(f"{'device':<13}{'GB/s a channel':>15}" + "".join(f"{kind:>13}" for kind in kinds))
    for name, t in PRESETS.items():
        shares = "".join(f"{stream_efficiency(name, kind):>13.3f}" for kind in kinds)
        print(f"{name:<13}{t.peak_gbps:>15.1f}{shares}")


if __name__ == "__main__":
    main()
