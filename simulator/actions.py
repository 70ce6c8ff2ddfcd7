"""What a layer makes a machine do, counted: the only thing that energy is computed from."""

from dataclasses import dataclass

BUFFERS = ("weight", "index", "activation", "output")


@dataclass(frozen=True)
class Actions:
    """Counts of one execution of one layer.

    `macs` are multiply-accumulates of kept weights; `idle_macs` the other MAC slots of the compute cycles (zeros
    multiplied, idle lanes, filling and draining). `read_bits` and `write_bits` hold the traffic of each on-chip buffer,
    in the order of BUFFERS; `dram_bits` what crosses the chip's border, both ways.
    """

    macs: float
    idle_macs: float
    read_bits: tuple[float, float, float, float]
    write_bits: tuple[float, float, float, float]
    dram_bits: float
