"""OWL's sparsities of the units of a cost table, at any sparsity of all together, from one count of outliers."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from checkpoints.checkpoint import Checkpoint
from checkpoints.prunable import all_refs
from pruning.allocations.allocation import AllocationJob
from pruning.allocations.owl import Owl, outlier_ratios
from pruning.forward.hidden_states import Progress
from pruning.parallel import one_thread_per_operation
from pruning.run.error_table import left
from pruning.run.layer_sparsities import scored_weights
from pruning.run.recipe import Recipe
from studies.speed.planners import Shares
from workloads.cost_table import Unit
from workloads.files import pretty_json, read_json, sha256_of, write_text
from workloads.layers import Layer

FILE = "outliers.json"


def owl_shares(
    opened: Callable[[], Checkpoint], recipe: Recipe, units: Sequence[Unit], work: Path, progress: Progress
) -> Shares:
    """With OWL's defaults, on the recipe's calibration sequences; a unit lies within one block. Raises UserError."""
    allocation, names, file = Owl(), {name for unit in units for name in unit.layers}, work / FILE

    @cache
    def known() -> tuple[list[Layer], dict[int, float]]:
        """Outlier ratios by block, of layers; a pass over the calibration sequences where they are not kept."""
        checkpoint = left(opened(), recipe)
        refs = [[ref for ref in block if ref.layer.name in names] for block in all_refs(checkpoint)]
        layers = [ref.layer for block in refs for ref in block]
        key = sha256_of([recipe.header(checkpoint).sha256(), sorted(names), allocation.facts])
        kept: dict[str, Any] = read_json(file, "outliers") if file.is_file() else {}
        if kept.get("key") != key:
            with one_thread_per_operation():
                job = AllocationJob(
                    layers, 0, None, nothing, lambda: scored_weights(checkpoint, recipe, refs, progress)
                )
                kept = {"key": key, "ratios": {str(block): r for block, r in outlier_ratios(job, allocation.m)}}
            write_text(file, pretty_json(kept))
        return layers, {int(block): ratio for block, ratio in kept["ratios"].items()}

    def shares(sparsity: float) -> np.ndarray:
        layers, ratios = known()
        job = AllocationJob(layers, sparsity, None, nothing, nothing)
        by_layer = allocation.of_ratios(job, ratios).sparsity
        return np.array([by_layer[unit.layers[0]] for unit in units])

    return shares


def nothing() -> Iterator[Any]:
    """In the place of weights that nobody looks at."""
    return iter(())
