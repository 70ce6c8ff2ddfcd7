"""Smaller models to begin with: shares of neurons and kv groups are taken out, masks meet the rest of the speed, and
the model whose predictions on the calibration sequences are nearest to the unpruned one's is taken.

Which units go, and new weights for what stays, is obs-sp's (methods 7.7): the same share of every FFN or attention. The
budget is then met by the knapsack over what is left, so structure and masks share one speed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pruning.config import PruneConfig
from studies.speed.result import Met
from workloads.bundle import MaskBundle
from workloads.errors import UserError

UNITS = {("neurons",): "ffn", ("heads",): "heads", ("heads", "neurons"): "all"}
KINDS = ("neurons", "heads")
SHARES = (0.125, 0.25, 0.375)
METHOD = "obs-sp"

Found = tuple[MaskBundle, Met, dict[str, str]]


@dataclass(frozen=True)
class Shapes:
    """`take_out(asked, folder)` makes a structured bundle; `found(bundle, folder)` masks that meet the speed on what it
    leaves, None: on the unpruned model; `apart(bundle)`: how far predictions are from the unpruned model's."""

    take_out: Callable[[PruneConfig, Path], MaskBundle]
    found: Callable[[Path | None, Path], Found]
    apart: Callable[[MaskBundle], float]

    def best(self, kinds: Sequence[str], seed: int | None, work: Path) -> Found:
        """Raises UserError where the speed is reached with none of them."""
        units = UNITS[tuple(sorted(kinds))]
        tried: list[tuple[float, Found]] = []
        refused: list[UserError] = []
        for share in (0.0, *SHARES):
            folder = work / f"{units}-{100 * share:g}"
            try:
                after = None
                if share:
                    asked = PruneConfig(METHOD, share, set={"units": units}, seed=seed)
                    after = self.take_out(asked, folder / "smaller").folder
                one = self.found(after, folder)
            except UserError as error:
                refused.append(error)
                continue
            tried.append((self.apart(one[0]), one))
        if not tried:
            raise refused[-1]
        bundle, met, plan = min(tried, key=lambda each: each[0])[1]
        return bundle, replace(met, shapes=len(tried)), plan
