"""Recipes from names and settings, as the command line makes them, with calibration of a few random tokens."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from pruning.data.calibration import Calibration
from pruning.methods import METHODS
from pruning.run.recipe import Recipe
from studies.prune import PruneSettings, check_settings
from validation.conformance.tiny_models import token_ids


def recipe(
    method: str, sparsity: float = 0.5, rule: str | None = None, pattern: str | None = None,
    ids: torch.Tensor | None = None, *, bits: int | None = None, group_size: int = 0, quantizer: str | None = None,
    allocation: str | None = None, sets: Sequence[str] = (), seed: int = 0, **parameters: Any,
) -> Recipe:  # fmt: skip
    """A recipe with 5 sequences of 12 tokens where it needs them; parameters are the method's, sets as on the command line."""
    given = None if pattern or not METHODS[method].prunes else sparsity
    values = [f"{key}={json.dumps(value)}" for key, value in parameters.items()]
    made = check_settings(
        PruneSettings(
            method,
            given,
            pattern or "unstructured",
            rule,
            [*values, *sets],
            bits,
            group_size,
            quantizer,
            allocation,
            seed,
        )
    )
    drawn = Calibration(token_ids(5, 12) if ids is None else ids, "test") if made.needs_calibration else None
    return replace(made, model_id="tiny", calibration=drawn)
