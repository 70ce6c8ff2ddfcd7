"""Accelerators whose granules know nothing of each other: the common mapper cuts the layer and does the rest."""

from abc import abstractmethod

from simulator.accelerators.accelerator import Accelerator
from simulator.cycles import LayerCycles
from simulator.statistics import Statistics
from simulator.tiling.granules import Granules
from simulator.tiling.mapper import Cut, best_layer
from simulator.work import Work
from workloads.arguments import shown
from workloads.errors import UserError


class GranularAccelerator(Accelerator):
    """A design states `gather` and `granules`; tiles, loop orders, buffers, DRAM and energy are those of
    tiling/mapper.py."""

    reuses_halo = True

    @abstractmethod
    def granules(self, statistics: Statistics) -> Granules:
        """What every granule holds and takes, from what was gathered."""

    def note(self, statistics: Statistics) -> str:
        """What the rows' `mapping` says first, of the mask."""
        return ""

    def layer(self, work: Work, statistics: Statistics) -> LayerCycles:
        granules = self.granules(statistics)
        if not isinstance(granules, Granules):
            raise UserError(f"{self.name}: `granules` returned {shown(granules)}; it should be Granules")
        sides = int(granules.rows.sum()), int(granules.cols.sum())
        if sides != (work.rows, work.cols):
            raise UserError(
                f"{self.name}: the granules have {sides[0]} outputs and {sides[1]} inputs, the layer {work.rows} and "
                f"{work.cols}; `rows` and `cols` are the sides of each"
            )
        return best_layer(self.spec, [Cut(granules, statistics, self.note(statistics))], work)
