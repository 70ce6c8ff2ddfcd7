"""What every unit of a model costs under every choice, on one target in one phase: all that whoever decides about
budgets learns of a machine."""

import csv
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from workloads.choices import Choice, parse_choice
from workloads.errors import UserError
from workloads.files import plain, pretty_json, read_json, sha256_of, write_text

FORMAT = "prunesim-cost-table"
VERSION = 1


@dataclass(frozen=True)
class Unit:
    """Matrices, by name, that get one choice together; `weights` of all of them."""

    name: str
    layers: tuple[str, ...]
    weights: int


@dataclass(frozen=True)
class CostTable:
    """costs (units, choices) float64 in `measure` (us, flop, bytes ...), NaN where the target cannot run that; the
    first choice leaves a unit as it is. `fixed`: what no choice changes. `facts`: target, its settings and hash,
    phase. `unpruned`: of the model before something was taken out of it, 0: nothing was."""

    measure: str
    units: tuple[Unit, ...]
    choices: tuple[Choice, ...]
    costs: np.ndarray
    fixed: float
    facts: dict[str, Any]
    unpruned: float = 0.0

    def __post_init__(self) -> None:
        shape = len(self.units), len(self.choices)
        if self.costs.shape != shape:
            raise UserError(f"a cost table of {shape[0]} units and {shape[1]} choices has costs of {self.costs.shape}")
        if not np.isfinite(self.costs[:, 0]).all() or (self.costs < 0).any():
            raise UserError("a cost table needs a cost of 0 or more for every unit as it is")

    @property
    def dense(self) -> float:
        """Of the whole model with every unit as it is."""
        return float(self.costs[:, 0].sum()) + self.fixed

    @property
    def reference(self) -> float:
        """What speedups are against."""
        return self.unpruned or self.dense

    def budget(self, speedup: float, asked: str = "") -> float:
        """What the units together may cost for a whole model so many times cheaper than dense, which was `asked` for in
        these words. Raises UserError where what no choice changes takes all of it, and for a speedup that is none."""
        asked = asked or f"`speedup` {speedup:g}"
        if not speedup >= 1:
            raise UserError(f"{asked}: at least 1, as in 1.5 for two thirds of the time")
        left = self.reference / speedup - self.fixed
        least = float(np.nanmin(self.costs, axis=1).sum())
        if left < least:
            where, best = self.facts.get("target", "the target"), self.reference / (self.fixed + least)
            raise UserError(
                f"{asked} on {where} cannot be reached: with the cheapest choice everywhere it is "
                f"{best:.3f}, and {self.fixed / self.reference:.1%} of the dense {self.measure} is fixed; "
                "ask for less, or allow more choices"
            )
        return left

    @cached_property
    def sha256(self) -> str:
        return sha256_of(self.plain())

    def plain(self) -> dict[str, Any]:
        """As JSON; None for NaN."""
        costs = [[None if np.isnan(cost) else float(cost) for cost in row] for row in self.costs]
        return {
            "format": FORMAT, "version": VERSION, "measure": self.measure, "fixed": self.fixed,
            "unpruned": self.unpruned,
            "facts": plain(self.facts), "choices": [str(choice) for choice in self.choices],
            "units": [{"name": u.name, "layers": list(u.layers), "weights": u.weights} for u in self.units],
            "costs": costs,
        }  # fmt: skip

    def write(self, path: Path) -> None:
        """JSON, or with a name that ends in .csv a line for each unit and choice. Raises UserError."""
        write_text(path, self.csv() if path.suffix == ".csv" else pretty_json(self.plain()))

    def csv(self) -> str:
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(["unit", "choice", self.measure])
        for unit, row in zip(self.units, self.costs, strict=True):
            for choice, cost in zip(self.choices, row, strict=True):
                lines.writerow([unit.name, str(choice), "" if np.isnan(cost) else repr(float(cost))])
        return text.getvalue()

    @classmethod
    def read(cls, path: Path) -> "CostTable":
        """Raises UserError for a file that is none."""
        content = read_json(path, "cost table")
        try:
            if content["format"] != FORMAT or content["version"] != VERSION:
                raise KeyError
            units = tuple(Unit(u["name"], tuple(u["layers"]), u["weights"]) for u in content["units"])
            choices = tuple(parse_choice(text) for text in content["choices"])
            costs = np.array(content["costs"], dtype=np.float64).reshape(len(units), len(choices))
            return cls(
                content["measure"],
                units,
                choices,
                costs,
                float(content["fixed"]),
                content["facts"],
                content["unpruned"],
            )
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{path} is no cost table of version {VERSION}; make it again") from None
