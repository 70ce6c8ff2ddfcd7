"""DRAM devices as data: organisation and timing of one channel, each value with its source.

Names are JEDEC's: nX is tX in clock cycles (CK), _S between different bank groups, _L within one.

Sources, by the tags used below:
  R   Ramulator 2.1 (CMU-SAFARI/ramulator2, c5b1c3a), presets in python/ramulator/dram
  J   typical of JEDEC-conforming parts; not in R, or changed from R for the reason given beside it
"""

import dataclasses
from dataclasses import dataclass

from workloads.errors import UserError, unknown


@dataclass(frozen=True)
class DramTiming:
    """One channel. A pseudo-channel has a data bus and banks of its own; the command bus belongs to the channel.

    Counts of pseudo-channels, groups, banks and bursts a row must be powers of two (the address mapping cuts bits).
    """

    name: str
    source: str
    rate_mbps: int  # megabits per second and data pin
    clock_ns: float
    width_bits: int  # data pins of one pseudo-channel
    burst_length: int
    pseudo_channels: int
    stack_ids: int  # dies of a stack that share a pseudo-channel; 1 outside HBM3
    bank_groups: int
    banks_per_group: int
    row_bytes: int  # of one bank, over the width of the pseudo-channel
    rows: int
    nBL: int
    nCL: int
    nCWL: int
    nRCD: int  # ACT to RD
    nRCDW: int  # ACT to WR
    nRP: int
    nRPA: int  # precharge of all banks to ACT
    nRAS: int
    nRC: int
    nRTP: int
    nWR: int
    nCCD_S: int
    nCCD_L: int
    nCCD_L_WR: int
    nCCD_R: int  # between stack ids
    nRRD_S: int
    nRRD_L: int
    nFAW: int
    nWTR_S: int
    nWTR_L: int
    nRTW: int  # RD to WR, command to command
    nPPD: int  # between precharges; 1 where the standard has none
    nRFC: int  # all-bank refresh
    nREFI: int
    # Cycles a command takes on the command bus. Timings count from its last cycle.
    act_bus_cycles: int = 1
    column_bus_cycles: int = 1
    # Above 1: ACT is two one-cycle commands (LPDDR5), at most nAAD apart; timings count from the first.
    nAAD: int = 1
    # 1: one command bus; 2: columns (RD, WR) and rows (the rest) apart; 3: precharges on a slot of their own besides.
    command_buses: int = 1

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, str) and value <= 0:
                raise UserError(f"DRAM {self.name}: {field.name} = {value}; it must be positive")
        for name in ("pseudo_channels", "stack_ids", "rows", "bank_groups", "banks_per_group", "bursts_per_row"):
            value = getattr(self, name)
            if value & (value - 1):
                raise UserError(f"DRAM {self.name}: {name} = {value}; it must be a power of two")
        if self.nAAD > 1 and (self.command_buses > 1 or self.act_bus_cycles > 1):
            raise UserError(f"DRAM {self.name}: a split ACT (nAAD = {self.nAAD}) needs one command bus, one cycle each")
        if self.bursts_per_row < 4:
            raise UserError(f"DRAM {self.name}: a row of {self.row_bytes} B holds {self.bursts_per_row} bursts, not 4")

    @property
    def burst_bytes(self) -> int:
        """What one RD or WR moves."""
        return self.width_bits * self.burst_length // 8

    @property
    def bursts_per_row(self) -> int:
        return self.row_bytes // self.burst_bytes

    @property
    def banks(self) -> int:
        """Banks of the channel, over all its pseudo-channels."""
        return self.pseudo_channels * self.stack_ids * self.bank_groups * self.banks_per_group

    @property
    def peak_gbps(self) -> float:
        """GB/s (1e9) of one channel with every data pin busy."""
        return self.rate_mbps * self.width_bits * self.pseudo_channels / 8e3


# R: DDR4_3200AA with DDR4_8Gb_x8 (eight x8 chips). nRFC is R's 360 ns; JESD79-4 gives 350 ns for 8 Gb parts.
# nRTW = nCL + nBL + 2 - nCWL as in R.
DDR4_3200 = DramTiming(
    name="DDR4-3200",
    source="Ramulator 2.1: DDR4_3200AA, DDR4_8Gb_x8",
    rate_mbps=3200, clock_ns=0.625, width_bits=64, burst_length=8,
    pseudo_channels=1, stack_ids=1, bank_groups=4, banks_per_group=4, row_bytes=8192, rows=1 << 16,
    nBL=4, nCL=22, nCWL=16, nRCD=22, nRCDW=22, nRP=22, nRPA=22, nRAS=52, nRC=74, nRTP=12, nWR=24,
    nCCD_S=4, nCCD_L=8, nCCD_L_WR=8, nCCD_R=4, nRRD_S=4, nRRD_L=8, nFAW=34, nWTR_S=4, nWTR_L=12, nRTW=12, nPPD=1,
    nRFC=576, nREFI=12480,
)  # fmt: skip

# R: DDR5_4800AN with DDR5_16Gb_x8, one 32-bit sub-channel. nRTW = nCL + nBL + 4 - nCWL as in R. ACT, RD and WR take
# two cycles of the command bus.
DDR5_4800 = DramTiming(
    name="DDR5-4800",
    source="Ramulator 2.1: DDR5_4800AN, DDR5_16Gb_x8",
    rate_mbps=4800, clock_ns=0.41667, width_bits=32, burst_length=16,
    pseudo_channels=1, stack_ids=1, bank_groups=8, banks_per_group=4, row_bytes=4096, rows=1 << 16,
    nBL=8, nCL=34, nCWL=32, nRCD=34, nRCDW=34, nRP=34, nRPA=34, nRAS=77, nRC=111, nRTP=18, nWR=72,
    nCCD_S=8, nCCD_L=12, nCCD_L_WR=48, nCCD_R=8, nRRD_S=8, nRRD_L=12, nFAW=48, nWTR_S=6, nWTR_L=24, nRTW=14, nPPD=2,
    nRFC=710, nREFI=9375,
    act_bus_cycles=2, column_bus_cycles=2,
)  # fmt: skip

# R: LPDDR5_6400 with LPDDR5_16Gb_x16. CK runs at a quarter of WCK, so a burst of 16 takes two CK. The CAS command that
# wakes WCK after a pause is left out (one cycle each). nRTW = nCL + nBL + 2 - nCWL as in R.
LPDDR5_6400 = DramTiming(
    name="LPDDR5-6400",
    source="Ramulator 2.1: LPDDR5_6400, LPDDR5_16Gb_x16",
    rate_mbps=6400, clock_ns=1.25, width_bits=16, burst_length=16,
    pseudo_channels=1, stack_ids=1, bank_groups=4, banks_per_group=4, row_bytes=2048, rows=1 << 16,
    nBL=2, nCL=17, nCWL=9, nRCD=15, nRCDW=15, nRP=15, nRPA=17, nRAS=34, nRC=49, nRTP=8, nWR=28,
    nCCD_S=2, nCCD_L=4, nCCD_L_WR=4, nCCD_R=2, nRRD_S=4, nRRD_L=4, nFAW=16, nWTR_S=5, nWTR_L=10, nRTW=12, nPPD=2,
    nRFC=224, nREFI=3125,
    nAAD=8,
)  # fmt: skip

# R: GDDR6_2000_1350mV_quad with GDDR6_8Gb_x16, as one 16-bit channel of 14 Gb/s (a chip has two). Changed (J): nCCD_S
# is 2 and nCCD_L 4 where R has 4 and 6, which leaves R's bus of two-cycle bursts half idle; nRFC is R's 120 ns (R adds
# an all-bank figure of 180 ns that it marks as unknown). nRTW = nCL + 1 as in R.
GDDR6 = DramTiming(
    name="GDDR6",
    source="Ramulator 2.1: GDDR6_2000_1350mV_quad, GDDR6_8Gb_x16; nCCD_S, nCCD_L JEDEC-typical",
    rate_mbps=14000, clock_ns=8 / 14, width_bits=16, burst_length=16,
    pseudo_channels=1, stack_ids=1, bank_groups=4, banks_per_group=4, row_bytes=2048, rows=1 << 14,
    nBL=2, nCL=24, nCWL=6, nRCD=26, nRCDW=16, nRP=26, nRPA=26, nRAS=53, nRC=79, nRTP=4, nWR=26,
    nCCD_S=2, nCCD_L=4, nCCD_L_WR=4, nCCD_R=2, nRRD_S=7, nRRD_L=7, nFAW=28, nWTR_S=9, nWTR_L=11, nRTW=25, nPPD=1,
    nRFC=210, nREFI=3333,
)  # fmt: skip

# R: HBM2_2000Mbps with HBM2_4Gb, two pseudo-channels; nRTP is R's nRTPL. ACT takes two cycles of the row bus.
# nRTW = nCL + nBL + 2 - nCWL as in R.
HBM2 = DramTiming(
    name="HBM2",
    source="Ramulator 2.1: HBM2_2000Mbps, HBM2_4Gb",
    rate_mbps=2000, clock_ns=1.0, width_bits=64, burst_length=4,
    pseudo_channels=2, stack_ids=1, bank_groups=4, banks_per_group=4, row_bytes=1024, rows=1 << 15,
    nBL=2, nCL=14, nCWL=5, nRCD=14, nRCDW=12, nRP=14, nRPA=14, nRAS=34, nRC=48, nRTP=5, nWR=16,
    nCCD_S=2, nCCD_L=4, nCCD_L_WR=4, nCCD_R=2, nRRD_S=4, nRRD_L=4, nFAW=15, nWTR_S=6, nWTR_L=8, nRTW=13, nPPD=1,
    nRFC=260, nREFI=3900,
    act_bus_cycles=2, command_buses=2,
)  # fmt: skip

# R: HBM3_6400Mbps with HBM3_16Gb_8hi, two pseudo-channels of two stack ids. R's 1.5 cycles of an ACT are taken as 2,
# its precharges on the falling edge as a slot of their own.
HBM3 = DramTiming(
    name="HBM3",
    source="Ramulator 2.1: HBM3_6400Mbps, HBM3_16Gb_8hi",
    rate_mbps=6400, clock_ns=0.625, width_bits=32, burst_length=8,
    pseudo_channels=2, stack_ids=2, bank_groups=4, banks_per_group=4, row_bytes=1024, rows=1 << 14,
    nBL=2, nCL=20, nCWL=10, nRCD=31, nRCDW=15, nRP=26, nRPA=26, nRAS=45, nRC=72, nRTP=9, nWR=33,
    nCCD_S=2, nCCD_L=4, nCCD_L_WR=4, nCCD_R=3, nRRD_S=4, nRRD_L=5, nFAW=24, nWTR_S=7, nWTR_L=10, nRTW=20, nPPD=2,
    nRFC=560, nREFI=6240,
    act_bus_cycles=2, command_buses=3,
)  # fmt: skip

PRESETS = {timing.name: timing for timing in (DDR4_3200, DDR5_4800, LPDDR5_6400, GDDR6, HBM2, HBM3)}


def timing_of(device: str) -> DramTiming:
    """The preset called `device`. Raises UserError naming the known ones."""
    if device not in PRESETS:
        raise unknown("DRAM device", device, PRESETS)
    return PRESETS[device]
