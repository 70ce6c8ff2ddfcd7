"""The table of model families: one line each (docs/networks.md)."""

from pathlib import Path

from checkpoints.checkpoint import Checkpoint
from checkpoints.opened import OpenModel
from pruning.families.crepe import CrepeFamily
from pruning.families.family import ModelFamily, Quality
from pruning.families.transformer import TRANSFORMERS
from workloads.plugins import Wanted, find, installed, is_file_name

# Beside the family of folders and hub ids, which has no name.
FAMILIES: dict[str, type[ModelFamily]] = {family.name: family for family in (CrepeFamily,)}


def find_family(model: str) -> tuple[ModelFamily, str]:
    """(family, what it opens) of what a user calls a model: NAME or NAME:VARIANT of one of ours or of an installed
    package, file.py:Name, else a folder, file or hub id. Raises UserError (workloads/plugins.py)."""
    if is_file_name(model):
        return _found(model)(), ""
    name, _, variant = model.partition(":")
    if not Path(model).exists() and name in FAMILIES:
        return FAMILIES[name](), variant
    if not Path(model).exists() and name in installed("families"):
        return _found(name)(), variant
    return TRANSFORMERS, model


def _found(name: str) -> type[ModelFamily]:
    found: type[ModelFamily] = find(Wanted("families", ModelFamily, FAMILIES, ("open",)), name)
    return found


def family_of(model: OpenModel) -> ModelFamily:
    """The one that opened it."""
    if isinstance(model, Checkpoint):
        return TRANSFORMERS
    owner: ModelFamily = model.family  # type: ignore[attr-defined]
    return owner


__all__ = ["FAMILIES", "TRANSFORMERS", "ModelFamily", "Quality", "family_of", "find_family"]
