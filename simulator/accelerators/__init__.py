"""The table of accelerators: one line each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simulator.accelerators import vitcod, vitcod_paper
from simulator.cycles import Outcome
from workloads.mask import PackedMask


@dataclass(frozen=True)
class Model:
    """A cycle model: its level, its spec dataclass, and (spec, mask, tokens, weight_bits) -> Outcome."""

    level: str
    spec_type: type
    simulate: Callable[[Any, PackedMask, int, int | None], Outcome]
    documentation: str
    notes: tuple[str, ...]  # deviations and approximations, one sentence each, for reports


ACCELERATORS = {
    "vitcod-paper": Model("paper", vitcod_paper.VitcodPaperSpec, vitcod_paper.simulate, vitcod_paper.__doc__ or "",
                          vitcod_paper.NOTES),
    "vitcod": Model("cycle", vitcod.VitcodSpec, vitcod.simulate, vitcod.__doc__ or "", vitcod.NOTES),
}  # fmt: skip
