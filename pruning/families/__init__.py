"""The table of model families: one line each (docs/networks.md)."""

from importlib import import_module

from checkpoints.checkpoint import Checkpoint
from checkpoints.opened import OpenModel
from pruning.families.family import ModelFamily, Quality
from pruning.families.transformer import TRANSFORMERS
from pruning.networks import NETWORKS, is_network
from workloads.plugins import Wanted, find, is_file_name

# Beside the family of folders and hub ids, which has no name.
FAMILIES: dict[str, type[ModelFamily]] = {
    name: getattr(import_module(module), family) for name, (module, family, _) in NETWORKS.items()
}


def find_family(model: str) -> tuple[ModelFamily, str]:
    """(family, what it opens) of what a user calls a model: NAME or NAME:VARIANT of one of ours or of an installed
    package, file.py:Name, else a folder, file or hub id. Raises UserError (workloads/plugins.py)."""
    if not is_network(model):
        return TRANSFORMERS, model
    name, _, variant = (model, "", "") if is_file_name(model) else model.partition(":")
    family = FAMILIES.get(name) or find(Wanted("families", ModelFamily, FAMILIES, ("open",)), name)
    return family(), variant


def family_of(model: OpenModel) -> ModelFamily:
    """The one that opened it."""
    if isinstance(model, Checkpoint):
        return TRANSFORMERS
    owner: ModelFamily = model.family  # type: ignore[attr-defined]
    return owner


__all__ = ["FAMILIES", "TRANSFORMERS", "ModelFamily", "Quality", "family_of", "find_family"]
