"""SPDY's search of coefficients with the predictions of the whole model as its loss, each loss kept on disk, so that a
killed search goes on where it was."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from checkpoints.checkpoint import Checkpoint
from pruning.block_job import Warn
from pruning.budget.coefficients import search_coefficients
from pruning.budget.knapsack import Rows
from pruning.forward.hidden_states import Progress
from pruning.run.error_table import left
from pruning.run.recipe import Recipe
from pruning.run.stitched import Stitched, database
from studies.speed.planners import solved
from workloads.cost_table import CostTable
from workloads.files import pretty_json, read_json, sha256_of, write_text

FILE = "losses.json"
FIRST = 4  # one in so many of the plans has all coefficients drawn anew
MISSES = 8  # of a share of coefficients: one in so many of the plans


@dataclass(frozen=True)
class Search:
    """`recipe` judges choices, `ids` (sequences, seq_len) are what losses are of; `work` holds what is known."""

    opened: Callable[[], Checkpoint]
    recipe: Recipe
    ids: torch.Tensor
    work: Path
    progress: Progress
    warn: Warn

    def factors(
        self, tables: Sequence[CostTable], errors: Rows, budgets: Sequence[float], most: int, seed: int
    ) -> np.ndarray:
        """(units,), by at most `most` losses. Raises UserError where the plans cannot be held in memory."""
        table, file = tables[0], self.work / FILE
        key = sha256_of([self.recipe.header(self.opened()).sha256(), *(one.sha256 for one in tables), list(budgets)])
        kept = read_json(file, "losses") if file.is_file() else {}
        losses: dict[str, float] = kept["losses"] if kept.get("key") == key else {}
        stitched: list[Stitched] = []  # made where a loss is not known yet

        def model() -> Stitched:
            if not stitched:
                held = database(
                    self.opened, self.recipe, table.choices, self.work / "database", self.progress, self.warn
                )
                stitched.append(Stitched(left(self.opened(), self.recipe), held, self.ids))
            return stitched[0]

        def loss(choices: np.ndarray) -> float:
            name = sha256_of([int(j) for j in choices])
            if name not in losses:
                whole = model()
                self.progress("plans tried on the whole model", len(losses), most)
                losses[name] = whole.loss(
                    {layer: int(j) for unit, j in zip(table.units, choices, strict=True) for layer in unit.layers}
                )
                write_text(file, pretty_json({"key": key, "losses": losses}))
            return losses[name]

        found = search_coefficients(
            errors, lambda rows: solved(rows, tables, budgets), loss, seed,
            max(1, most // FIRST), max(1, most // MISSES), most,
        )  # fmt: skip
        return found.factors
