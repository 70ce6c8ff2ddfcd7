"""What pruning for a speed came to: told in lines, and kept beside the masks."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workloads.errors import UserError
from workloads.files import pretty_json, read_json, write_text

FILE = "speed.json"


@dataclass(frozen=True)
class Round:
    """A plan: speedups by the table and with the masks it led to, what its errors sum up to, and the share of it that a
    better plan within the same budget could save at most."""

    additive: float
    final: float
    error: float
    gap: float
    plan: dict[str, str]


@dataclass(frozen=True)
class Met:
    """What was asked, `additive` (the sum of the table), `final` (the masks run again); us of the whole phase.
    `removed`: what was taken out before, "": nothing; of how many smaller models this was the best, the unpruned one
    among them."""

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

    @property
    def lines(self) -> list[str]:
        where, phase = self.facts["target"], self.facts["phase"]
        size = f"context {phase['context']}" if phase["name"] == "decode" else f"prompts of {phase['new']}"
        return [
            f"{phase['name']} on {where}, batch {phase['batch']}, {size}: {self.unpruned_us:,.1f} us dense, "
            f"{self.final_us:,.1f} us pruned",
            f"speedup: asked {self.asked:g}, by the sum of the table {self.additive:.3f}, with the final masks "
            f"{self.final:.3f} ({self.rounds} round{'s' if self.rounds > 1 else ''})",
            f"the plan's error is at most {self.gap:.2%} above the least within its budget; {self.fixed_us:,.1f} us "
            "are of what no choice changes",
            *([f"taken out first: {self.removed}"] if self.removed else []),
            *([f"the nearest to the unpruned model of {self.shapes} shapes"] if self.shapes > 1 else []),
        ]

    def write(self, folder: Path, plan: dict[str, str], settings: str) -> None:
        write_text(folder / FILE, pretty_json({"met": asdict(self), "plan": plan, "settings_sha256": settings}))


def read_met(folder: Path, settings: str = "") -> Met | None:
    """Of a bundle; None where it was not pruned for a speed. Raises UserError for one of other `settings` ("": any)."""
    if not (folder / FILE).is_file():
        return None
    content = read_json(folder / FILE, "speed")
    try:
        met = Met(**content["met"])
        if settings and content["settings_sha256"] != settings:
            raise UserError(f"{folder} already holds masks of another speed or other settings; choose another folder")
    except (KeyError, TypeError):
        raise UserError(f"{folder / FILE} is damaged; delete {folder} and start again") from None
    return met
