"""The budgets at which masks meet what was asked: what a plan sums up to is not what its masks cost, so the budgets are
scaled, plan and masks made anew. First by how far the sum was off; once one scale missed and another met, halfway
between the last of either, for where costs are a staircase what was off says little of the next step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

ROUNDS = 8  # masks that are made
ENOUGH = 0.005  # more than this beyond what was asked is worth another round
SPARE = 0.002  # of a budget, when one more round follows a miss
NEAR = 0.01  # between a scale that missed and one that met


@dataclass(frozen=True)
class Tried:
    """By demand: `over`, what was reached over what was asked; `off`, what the masks cost over the plan's sum; `least`,
    whether its budget buys the cheapest choices alone. `key`: the same of the same plan."""

    key: str
    over: tuple[float, ...]
    off: tuple[float, ...]
    least: tuple[bool, ...]

    @property
    def met(self) -> bool:
        return min(self.over) >= 1


def scaled(attempt: Callable[[Sequence[float]], Tried], demands: int) -> float | None:
    """Ends with masks just beyond what was asked, with a missed and a met scale that are NEAR, where nothing changes,
    or after ROUNDS plans; `attempt(scales)`, of each budget one, keeps what it made of each. By how much the last
    budgets that missed lie above those that met, at most; None where none missed or none met."""
    scales, known = [1.0] * demands, set[str]()
    missed: list[float] | None = None
    met: list[float] | None = None
    while True:
        tried = attempt(scales)
        again = tried.key in known
        known.add(tried.key)
        missed, met = (missed, scales) if tried.met else (scales, met)
        if tried.met and min(tried.over) <= 1 + ENOUGH:
            break
        if missed is not None and met is not None:
            if above(missed, met) <= NEAR or len(known) >= ROUNDS:
                break
            scales = [(low + high) / 2 for low, high in zip(met, missed, strict=True)]
            continue
        at_end = not tried.met and any(o < 1 and least for o, least in zip(tried.over, tried.least, strict=True))
        if again or at_end or len(known) >= ROUNDS:
            break
        scales = [_next(*one, tried.met) for one in zip(scales, tried.over, tried.off, strict=True)]
    return None if missed is None or met is None else above(missed, met)


def above(missed: Sequence[float], met: Sequence[float]) -> float:
    return max(abs(high / low - 1) for low, high in zip(met, missed, strict=True))


def _next(scale: float, over: float, off: float, met: bool) -> float:
    if met:
        return 1 / off
    return min(1 / off, scale) * (1 - SPARE) if over < 1 else scale
