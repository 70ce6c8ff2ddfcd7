"""What an accelerator of your own states as `rtl`: its array in SystemVerilog, and how a mask becomes tiles of it.

See docs/tutorials/own-rtl.md; `prunesim check my_chip.py:MyChip --rtl` runs it.
"""

from validation.rtl.designs.design import Design
from validation.rtl.groups import Group
from validation.rtl.job import FIRST, LAST, Beats, Tile, TileRun, WalkRun, packed
from validation.runs import FREE_MEMORY, ROOMY, run

__all__ = [
    "FIRST", "FREE_MEMORY", "LAST", "ROOMY", "Beats", "Design", "Group", "Tile", "TileRun", "WalkRun", "packed", "run",
]  # fmt: skip
