"""Smaller models to begin with: what the knapsack takes out of each block (structures.py) goes first, masks meet the
rest of the speed, and the model whose predictions on held-out sequences are nearest to the unpruned one's is taken.

Which units go, and new weights for what stays, is obs-sp's (methods 7.7), block by block. The budget is then met over
what is left, matrix by matrix. Errors of structures and of masks are estimates of different kinds, so plans are tried
that trust the structures' as they are, and that hold them for so many times as bad."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pruning.methods.structured.given import CountedObsSp, GivenBlocks
from pruning.methods.structured.method import StructuredMethod
from studies.speed.result import Met
from studies.speed.structures import Structure
from workloads.bundle import MaskBundle
from workloads.errors import UserError
from workloads.removal import KV_GROUP, NEURON

UNITS = {"neurons": NEURON, "heads": KV_GROUP}
BLOCKS = "blocks"
KINDS = (*UNITS, BLOCKS)
WEIGHTS = (1.0, 3.0)

Found = tuple[MaskBundle, Met, dict[str, str]]


@dataclass(frozen=True)
class Shapes:
    """`planned(weight)`: what goes; `take_out(method, share, after, folder)` makes the bundle of it; `found(bundle,
    folder)` masks that meet the speed on what it leaves, None: on the unpruned model; `apart(bundle)`: how far
    predictions are from the unpruned model's."""

    planned: Callable[[float], Structure]
    take_out: Callable[[StructuredMethod, float, Path | None, Path], MaskBundle]
    found: Callable[[Path | None, Path], Found]
    apart: Callable[[MaskBundle], float]

    def best(self, work: Path) -> Found:
        """Raises UserError where the speed is reached with none of them."""
        tried: list[tuple[float, Found]] = []
        refused: list[UserError] = []
        known: list[Structure] = []
        for weight in (None, *WEIGHTS):
            folder = work / ("whole" if weight is None else f"structure-{weight:g}")
            try:
                after = None
                if weight is not None:
                    structure = self.planned(weight)
                    if structure.takes_nothing or structure in known:
                        continue
                    known.append(structure)
                    after = self._smaller(structure, folder)
                one = self.found(after, folder)
            except UserError as error:
                refused.append(error)
                continue
            tried.append((self.apart(one[0]), one))
        if not tried:
            raise refused[-1]
        bundle, met, plan = min(tried, key=lambda each: each[0])[1]
        return bundle, replace(met, shapes=len(tried)), plan

    def _smaller(self, structure: Structure, folder: Path) -> Path:
        """Blocks first, then units of those that stay."""
        after = None
        if structure.gone:
            last = "smaller" if not structure.kept else "blocks"
            after = self.take_out(GivenBlocks(blocks=structure.gone), 0.0, None, folder / last).folder
        if structure.kept:
            method = CountedObsSp(counts=structure.kept)
            after = self.take_out(method, structure.share, after, folder / "smaller").folder
        assert after is not None
        return after


def units_of(kinds: Sequence[str]) -> frozenset[str]:
    """Of the words of `choices`."""
    return frozenset(UNITS[kind] for kind in kinds if kind in UNITS)
