"""DRAM as an architect says it: `Ddr4(channels=2)` stands for a whole dram section of a machine.

A generic one is `parts.Dram(bandwidth_gbps=100)`. What only a generic DRAM needs, bandwidth and efficiency, a named
device leaves as the preset has it: the bank model knows its own.
"""

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class NamedDram:
    """`channels` of a device that the bank model knows by its name."""

    channels: int = 1
    device: ClassVar[str]

    @property
    def settings(self) -> dict[str, Any]:
        return {"device": self.device, "channels": self.channels}


class Ddr4(NamedDram):
    device = "DDR4-3200"


class Lpddr5(NamedDram):
    device = "LPDDR5-6400"


class Gddr6(NamedDram):
    device = "GDDR6"


class Hbm2(NamedDram):
    device = "HBM2"


class Hbm3(NamedDram):
    device = "HBM3"
