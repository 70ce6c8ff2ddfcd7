"""Accelerators by their classes, and what one of your own is made of.

    from prunesim.machines import Array, Ddr4, Vitcod

    ps.simulate("masks/", on=Vitcod(array=Array(32, 32), dram=Ddr4(channels=2)), tokens=2048)

Sections that are not given are the preset's.
"""

from simulator.accelerators import Accelerator
from simulator.accelerators.accelerator import Values
from simulator.accelerators.bitserial.bitwave import BitWave
from simulator.accelerators.bitserial.stripes import Stripes
from simulator.accelerators.dstc.cycle import Dstc
from simulator.accelerators.eie import Eie
from simulator.accelerators.granular import GranularAccelerator
from simulator.accelerators.nm.highlight import Highlight
from simulator.accelerators.nm.stc import Stc
from simulator.accelerators.nm.vegeta import Vegeta
from simulator.accelerators.sigma.cycle import Sigma
from simulator.accelerators.sparten.cycle import Sparten
from simulator.accelerators.systolic.cycle import Systolic
from simulator.accelerators.vitcod.cycle import Vitcod
from simulator.accelerators.vitcod.paper import VitcodPaper
from simulator.cycles import Infeasible, LayerCycles, Outcome
from simulator.machine.devices import Ddr4, Gddr6, Hbm2, Hbm3, Lpddr5
from simulator.machine.parts import Array, Buffers, Clock, Dram, Machine, Mapping, Number, PositiveInt, Side
from simulator.machine.whole import Link, Memory, Vector
from simulator.statistics import Statistics
from simulator.tiling.granules import Granules, dense_storage, storage_arrays
from simulator.work import Work
from validation.twins.twin import TileRun, Twin

__all__ = [
    "Accelerator", "Array", "BitWave", "Buffers", "Clock", "Ddr4", "Dram", "Dstc", "Eie", "Gddr6",
    "GranularAccelerator", "Granules", "Hbm2", "Hbm3", "Highlight", "Infeasible", "LayerCycles", "Link", "Lpddr5",
    "Machine", "Mapping", "Memory", "Number", "Outcome", "PositiveInt", "Side", "Sigma", "Sparten", "Statistics", "Stc",
    "Stripes", "Systolic", "TileRun", "Twin", "Values", "Vector", "Vegeta", "Vitcod", "VitcodPaper", "Work",
    "dense_storage", "storage_arrays",
]  # fmt: skip
