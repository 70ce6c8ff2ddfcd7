"""Parts of which machines are put together, in TOML or in Python."""

from simulator.machine.devices import Ddr4, Gddr6, Hbm2, Hbm3, Lpddr5
from simulator.machine.parts import Array, Buffers, Clock, Dram, Machine, Mapping, Number
from simulator.machine.whole import Link, Memory, Vector

__all__ = [
    "Array",
    "Buffers",
    "Clock",
    "Ddr4",
    "Dram",
    "Gddr6",
    "Hbm2",
    "Hbm3",
    "Link",
    "Lpddr5",
    "Machine",
    "Mapping",
    "Memory",
    "Number",
    "Vector",
]
