"""What pruning for a speed came to: told in lines, and kept beside the masks."""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from workloads.errors import UserError
from workloads.files import pretty_json, read_json, write_text

FILE = "speed.json"
RECORDED = ("measured", "published")  # the source of times that nobody simulates


@dataclass(frozen=True)
class Round:
    """A plan: speedups by the table and with the masks it led to, what its errors sum up to, and the share of it that a
    better plan within the same budget could save at most; `others`: the factors of what else was asked for, with the
    masks; `missed_above`: by how much the last budgets that missed lie above the last that met, None where none did."""

    additive: float
    final: float
    error: float
    gap: float
    plan: dict[str, str]
    others: dict[str, float] = field(default_factory=dict)
    missed_above: float | None = None


@dataclass(frozen=True)
class Judged:
    """A plan that was tried: `kl` is how far its predictions on sequences held out from everything before are from the
    unpruned model's (nats a token), `final` its speedup; where it met the speed with no masks NaN, and `reason` why."""

    name: str
    kl: float = math.nan
    final: float = math.nan
    sparsity: float = math.nan
    error: float = math.nan
    rounds: int = 0
    reason: str = ""

    @property
    def words(self) -> str:
        return f"{self.name}: {self.reason}" if self.reason else f"{self.name} {self.kl:.4g} at {self.final:.3f}"


@dataclass(frozen=True)
class Met:
    """What was asked, `additive` (the sum of the table), `final` (the masks run again); us of the whole phase.
    `removed`: what was taken out before, "": nothing; of how many smaller models this was the best, the unpruned one
    among them. `judged`: the plans that were tried on the way to it, `plan` the name of the one taken, by `held_out`
    sequences."""

    asked: float
    additive: float
    final: float
    gap: float
    unpruned_us: float
    final_us: float
    fixed_us: float
    error: float
    rounds: int
    facts: dict[str, Any]
    removed: str = ""
    shapes: int = 1
    plan: str = ""
    held_out: int = 0
    judged: tuple[Judged, ...] = ()
    also: dict[str, list[float]] = field(default_factory=dict)  # by name [asked, final]
    missed_above: float | None = None  # as Round has it

    @property
    def lines(self) -> list[str]:
        where, phase = self.facts["target"], self.facts["phase"]
        size = f"context {phase['context']}" if phase["name"] == "decode" else f"prompts of {phase['new']}"
        return [
            f"{phase['name']} on {where}, batch {phase['batch']}, {size}: {self.unpruned_us:,.1f} us dense, "
            f"{self.final_us:,.1f} us pruned",
            *([f"times are of a record: {self.facts['settings']}"] if self.facts.get("source") in RECORDED else []),
            f"speedup: asked {self.asked:g}, by the sum of the table {self.additive:.3f}, with the final masks "
            f"{self.final:.3f} ({self.rounds} round{'s' if self.rounds > 1 else ''}){self._missed}",
            *(f"{name}: asked {low:g}, with the final masks {final:.3f}" for name, (low, final) in self.also.items()),
            *self._tried,
            f"{self._above_least}; {self.fixed_us:,.1f} us are of what no choice changes",
            *([f"taken out first: {self.removed}"] if self.removed else []),
            *([f"the nearest to the unpruned model of {self.shapes} shapes"] if self.shapes > 1 else []),
        ]

    @property
    def _above_least(self) -> str:
        if self.gap >= 1:
            return "how far the plan's error is above the least within its budget is not known"
        return f"the plan's error is at most {self.gap:.2%} above the least within its budget"

    @property
    def _missed(self) -> str:
        return "" if self.missed_above is None else f"; with budgets {self.missed_above:.1%} larger it is missed"

    @property
    def _tried(self) -> list[str]:
        if not self.judged:
            return []
        told = "; ".join(one.words for one in self.judged)
        of = f"{self.held_out} held-out sequence{'s' if self.held_out > 1 else ''}"
        return [f"divergence from the unpruned model's predictions on {of}, by plan: {told}; taken: {self.plan}"]

    def write(self, folder: Path, plan: dict[str, str], settings: str) -> None:
        met = asdict(self) | {"judged": [as_json(one) for one in self.judged]}
        write_text(folder / FILE, pretty_json({"met": met, "plan": plan, "settings_sha256": settings}))


def as_json(one: Judged) -> dict[str, Any]:
    """None for NaN."""
    return {name: None if value != value else value for name, value in asdict(one).items()}


def _judged(content: dict[str, Any]) -> Judged:
    values: dict[str, Any] = {name: math.nan if value is None else value for name, value in content.items()}
    return Judged(**values)


def read_met(folder: Path, settings: str = "") -> Met | None:
    """Of a bundle; None where it was not pruned for a speed. Raises UserError for one of other `settings` ("": any)."""
    if not (folder / FILE).is_file():
        return None
    content = read_json(folder / FILE, "speed")
    try:
        judged = tuple(map(_judged, content["met"].get("judged", ())))
        met = Met(**{**content["met"], "judged": judged})
        if settings and content["settings_sha256"] != settings:
            raise UserError(f"{folder} already holds masks of another speed or other settings; choose another folder")
    except (AttributeError, KeyError, TypeError):
        raise UserError(f"{folder / FILE} is damaged; delete {folder} and start again") from None
    return met
