"""What can be checked: a bundle's integrity, and the laws of an accelerator or a pruning method, whoever made it."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruning.networks import is_network
from simulator.machine.files import is_machine_file
from studies.kinds import ENERGY, kind_of
from studies.progress import ProgressLine
from workloads.bundle import MaskBundle
from workloads.errors import UserError
from workloads.plugins import is_file_name

if TYPE_CHECKING:
    from validation.conformance.laws import Result

BUNDLE_FILE = "bundle.json"


def is_bundle(what: Any) -> bool:
    """Whether it means a bundle's folder, or a path that is neither another file's nor a model's."""
    if not isinstance(what, str | Path):
        return False
    path, is_file = Path(what), is_file_name(str(what)) or is_machine_file(str(what)) or is_network(str(what))
    if path.is_dir():
        return (path / BUNDLE_FILE).exists() or not (path / "config.json").exists()
    return path.name == BUNDLE_FILE or (len(path.parts) > 1 and not is_file)


def check_bundle(folder: str | Path, progress: ProgressLine) -> str:
    """Reads every mask; what was found, in words. Raises UserError for what is not as the bundle says."""
    opened = MaskBundle.open(Path(folder).parent if Path(folder).name == BUNDLE_FILE else Path(folder))
    opened.validate(partial(progress, "checking masks"))
    progress.close()
    return f"{folder}: {len(opened)} layers, sparsity {opened.sparsity:.4f}, all masks are as {BUNDLE_FILE} says"


def check_laws(what: Any) -> Iterator["Result"]:
    """Of a name, a file.py:Name, a machine file, a class or an object. Raises UserError for what has no laws."""
    kind = kind_of(what) if isinstance(what, str) else kind_of_object(what)
    if kind == "accelerators":
        from validation.conformance.accelerators import check_accelerator

        yield from check_accelerator(what)
    elif kind == "methods":
        from validation.conformance.methods import check_method

        yield from check_method(what)
    else:
        raise UserError(f"{what}: {without_laws(str(what), kind)}")


MADE = "have no laws; masks made with it can be checked, such as those of"
WITHOUT_LAWS = {
    "attention": "runs attention alone and has no laws; `prunesim check` of `all` compares it with its twin and with "
    "its published log",
    "records": "published times of no GEMMs, which have no laws; `prunesim show {name}` says who measured what, and "
    "`prunesim measure` with `replay` {name} has its rows",
    "quantizers": f"quantizers {MADE} `prunesim prune` with `bits` 4 and `quantizer` {{name}}",
    "allocations": f"allocations {MADE} `prunesim prune` with `allocation` {{name}}",
    "families": f"families {MADE} `prunesim prune {{name}}`",
    "models": f"models {MADE} `prunesim generate` with `model` {{name}}",
    ENERGY: "constants, which have no laws; `prunesim show {name}` has the source of each",
}


def without_laws(name: str, kind: str) -> str:
    """What can be done with a name of that kind instead of checking its laws."""
    if kind != "gpus":
        return WITHOUT_LAWS[kind].format(name=name)
    from measurement.published import names

    own = [each for each in names() if each.endswith(f"-{name}")]
    times = f"`prunesim check {own[0]}`" if own else "`prunesim check` of a record that `prunesim measure` made on it"
    return f"GPUs have no laws; {times} compares what is predicted with what was measured"


def kind_of_object(what: Any) -> str:
    from simulator.accelerators import Accelerator

    of = what if isinstance(what, type) else type(what)
    if issubclass(of, Accelerator):
        return "accelerators"
    from pruning.methods import PruningMethod

    if issubclass(of, PruningMethod):
        return "methods"
    raise UserError(f"{of.__name__} is no Accelerator and no PruningMethod of prunesim")
