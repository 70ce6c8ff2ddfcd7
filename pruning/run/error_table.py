"""The errors of every matrix under every choice, for budgets to be spent by.

    output   relative squared error of its output (choice_errors.py); of different matrices hardly comparable
    probe    that, times a factor a matrix: the divergence of the whole model's predictions at one choice, over the
             output error there. Losses of small changes are near linear in the squared error (Malinovskii et al.,
             "HIGGS", 2024, theorem 1), so one choice fixes the factor
    kl       the divergence itself at every choice: as many passes as matrices times choices

Divergences need the whole model in memory (replace_one.py), and the changed weights of what is probed beside it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.prunable import all_refs
from pruning.applied import apply_bundle
from pruning.block_job import Decision, Warn
from pruning.evidence.needs import Need
from pruning.forward.hidden_states import Progress
from pruning.methods.method import PruningMethod
from pruning.run.choice_errors import Seen, choice_errors
from pruning.run.driver import start
from pruning.run.recipe import Recipe
from pruning.run.replace_one import divergences
from workloads.bundle_writer import BundleWriter
from workloads.choices import UNTOUCHED, Choice
from workloads.errors import UserError
from workloads.locking import writing

Kind = Literal["output", "probe", "kl"]
LEARNED = frozenset({Need.OUTPUTS, Need.DENSE})


def learns(method: PruningMethod) -> bool:
    """Whether it trains a block, which is too long for every choice: another method's masks stand in."""
    return bool(frozenset(method.needs) & LEARNED)


def error_table(
    opened: Callable[[], Checkpoint],
    recipe: Recipe,
    choices: Sequence[Choice],
    kind: Kind,
    folder: Path,
    progress: Progress,
    warn: Warn,
) -> dict[str, np.ndarray]:
    """By layer (choices,) float64, NaN where the choice is none there. `opened()` gives the model anew; `folder`, for
    what the method gathers, holds nothing afterwards. Raises UserError for models and methods that it cannot judge."""
    calibration = recipe.calibration
    if calibration is None or isinstance(calibration.data, dict):
        raise UserError("errors of choices are those on calibration sequences of tokens; give `calibration`")
    checkpoint = left(opened(), recipe)
    refs = all_refs(checkpoint)
    wanted = {"output": [], "probe": [probed(choices)], "kl": list(range(len(choices)))}[kind]
    kept: dict[tuple[str, int], torch.Tensor] = {}

    def seen(name: str, place: int, decision: Decision) -> None:
        if place in wanted and choices[place] != UNTOUCHED:
            ref = next(ref for block in refs for ref in block if ref.layer.name == name)
            weight = decision.weight
            if weight is None:
                weight = ref.matrix(checkpoint.blocks[ref.layer.block]).float().masked_fill(~decision.keep, 0)
            kept[name, place] = weight.to(checkpoint.model.dtype).cpu()

    found = run_choices(checkpoint, recipe, choices, folder, progress, warn, seen)
    if kind == "output":
        return found
    model = left(opened(), recipe)
    for place in wanted:
        weights = {name: weight for (name, j), weight in kept.items() if j == place}
        flat = [ref for block in all_refs(model) for ref in block]
        apart = divergences(model, flat, weights, calibration.ids, progress) if weights else {}
        for name, divergence in apart.items():
            if kind == "kl":
                found[name][place] = divergence
            elif found[name][place] > 0:
                found[name] = found[name] * (divergence / found[name][place])
    return found


def run_choices(
    checkpoint: Checkpoint, recipe: Recipe, choices: Sequence[Choice], folder: Path, progress: Progress, warn: Warn,
    seen: Seen,
) -> dict[str, np.ndarray]:  # fmt: skip
    """By layer (choices,) output errors. `folder` holds nothing afterwards."""
    with writing(folder):
        writer = BundleWriter(folder, recipe.header(checkpoint))
        run = start(checkpoint, recipe, writer, all_refs(checkpoint), progress, warn)
        found = {name: errors.numpy() for name, errors in choice_errors(run, choices, seen).items()}
        writer.discard()
    return found


def left(checkpoint: Checkpoint, recipe: Recipe) -> Checkpoint:
    """Without what the recipe's base takes out."""
    if recipe.base.masks is not None:
        apply_bundle(checkpoint, recipe.base.masks)
    return checkpoint


def probed(choices: Sequence[Choice]) -> int:
    """The place of the mask nearest to half of the weights, or of the first bits where there is none."""
    return min(range(1, len(choices)), key=lambda j: (not choices[j].is_masked, abs(choices[j].sparsity - 0.5), j))
