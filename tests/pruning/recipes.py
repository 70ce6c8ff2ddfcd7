"""Recipes from names and settings, as the command line makes them, with calibration of a few random tokens."""

from dataclasses import fields, replace
from typing import Any

import torch

from pruning.config import PruneConfig
from pruning.data.calibration import Calibration
from pruning.methods import METHODS
from pruning.run.make_recipe import make_recipe
from pruning.run.recipe import Recipe
from validation.conformance.tiny_models import token_ids


def recipe(
    method: str,
    sparsity: float = 0.5,
    *,
    ids: torch.Tensor | None = None,
    set: dict[str, Any] | None = None,
    **asked: Any,
) -> Recipe:
    """A recipe with 5 sequences of 12 tokens where it needs them. `asked`: settings, and parameters of the method."""
    names = [each.name for each in fields(PruneConfig)]
    settings = {name: value for name, value in asked.items() if name in names}
    parameters = {name: value for name, value in asked.items() if name not in names} | (set or {})
    given = None if settings.get("pattern") or not METHODS[method].prunes else sparsity
    made = make_recipe(PruneConfig(method, given, set=parameters, **settings))
    drawn = Calibration(token_ids(5, 12) if ids is None else ids, "test") if made.needs_calibration else None
    return replace(made, model_id="tiny", calibration=drawn)
