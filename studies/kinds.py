"""What a name that a user gives stands for: the tables of all rooms, installed packages and files."""

from collections.abc import Collection
from pathlib import Path

from workloads.errors import UserError, unknown
from workloads.plugins import installed, is_file_name, module_of, parted

ENERGY = "energy"
LISTS = ("accelerators", "gpus", "records", "methods", "quantizers", "allocations", "families", "models")  # of `ls`


def kind_of(name: str) -> str:
    """Which of LISTS a name is of, or "attention" or "energy"; what a file or a folder holds says so itself. Raises
    UserError for a name of nothing."""
    from checkpoints.catalog import catalog_names
    from measurement import published
    from simulator.accelerators import ACCELERATORS
    from simulator.accelerators.vitcod.attention import ATTENTION_MODELS
    from simulator.gpu import GPUS
    from simulator.gpu.named import is_gpu
    from simulator.machine.files import is_machine_file

    if name == ENERGY:
        return ENERGY
    if is_machine_file(name):
        return "gpus" if is_gpu(name) else "accelerators"
    if is_file_name(name):
        return kind_of_class(name)
    machines: dict[str, Collection[str]] = {
        "accelerators": ACCELERATORS,
        "gpus": GPUS,
        "attention": ATTENTION_MODELS,
        "models": catalog_names(),
        "records": [*published.names(), *published.TABLES],
    }
    for kind, names in machines.items():
        if name in names or name in installed(kind):
            return kind
    from pruning.allocations import ALLOCATIONS
    from pruning.families import FAMILIES
    from pruning.methods import METHODS
    from pruning.quantizers import QUANTIZERS

    components: dict[str, Collection[str]] = {
        "methods": METHODS, "quantizers": QUANTIZERS, "allocations": ALLOCATIONS, "families": FAMILIES,
    }  # fmt: skip
    for kind, table in components.items():
        if name in table or name in installed(kind):
            return kind
    if name.partition(":")[0] in (*FAMILIES, *installed("families")):  # NAME:VARIANT
        return "families"
    if published.is_record(name):
        return "records"
    if (Path(name) / "config.json").is_file():
        return "models"
    if name in LISTS:
        raise UserError(f"{name} is a list of names, not one of them; see `prunesim ls {name}`")
    if Path(name).is_dir():
        raise UserError(f"{name} is a folder, but neither of masks (bundle.json) nor of a model (config.json)")
    if Path(name).is_file():
        raise UserError(
            f"{name} is a file, but no machine (.toml), no Python file (file.py:Name), no record (.csv) and no folder"
        )
    known = [each for names in (*machines.values(), *components.values()) for each in names]
    raise unknown("name", name, [*known, ENERGY])


def kind_of_class(name: str) -> str:
    """Of a class of a file, or a design that one holds."""
    from simulator.accelerators import Accelerator

    path, wanted = parted(name)
    found = vars(module_of(Path(path))).get(wanted)
    of = found if isinstance(found, type) else type(found)
    if not wanted or found is None or issubclass(of, Accelerator):
        return "accelerators"  # whose finder says what is amiss
    from pruning.allocations import Allocation
    from pruning.families import ModelFamily
    from pruning.methods import PruningMethod
    from pruning.quantizers import Quantizer

    bases = {"methods": PruningMethod, "quantizers": Quantizer, "allocations": Allocation, "families": ModelFamily}
    for kind, base in bases.items():
        if issubclass(of, base):
            return kind
    raise UserError(f"{name} is no Accelerator, PruningMethod, Quantizer, Allocation or ModelFamily of prunesim")
