"""Which plan is taken: every one is met with its own masks, and the masks whose predictions on held-out sequences
diverge least from the unpruned model's stay."""

from collections.abc import Callable, Mapping
from pathlib import Path

from studies.speed.planners import Planner
from studies.speed.result import Judged, Round
from workloads.bundle import MaskBundle
from workloads.errors import UserError

Masks = tuple[MaskBundle, Round, int]


def nearest(
    planners: Mapping[str, Callable[[], Planner]],
    meet: Callable[[Planner], Masks],
    apart: Callable[[MaskBundle], float],
) -> tuple[Masks, str, tuple[Judged, ...]]:
    """(the masks, their rounds; the name of their plan; all that was tried). Of equal divergences the first. A plan
    that meets the speed with no masks is told. Raises UserError, the first one's, where none meets it."""
    found: dict[str, Masks] = {}
    judged: list[Judged] = []
    refused: list[UserError] = []
    known: dict[Path, float] = {}  # plans may agree
    for name, planner in planners.items():
        try:
            found[name] = bundle, one, rounds = meet(planner())
        except UserError as error:
            refused.append(error)
            judged.append(Judged(name, reason=str(error)))
            continue
        if bundle.folder not in known:
            known[bundle.folder] = apart(bundle)
        judged.append(Judged(name, known[bundle.folder], one.final, bundle.sparsity, one.error, rounds))
    if not found:
        raise refused[0]
    best = min((one for one in judged if one.name in found), key=lambda one: one.kl).name
    return found[best], best, tuple(judged)
