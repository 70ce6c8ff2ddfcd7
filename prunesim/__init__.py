"""How much faster does a pruned or quantized LLM really get, on which hardware, and what holds it back?

    import prunesim as ps

    rows = ps.simulate("masks/", on="vitcod", tokens=2048, set={"array.height": 16})
    rows.speedup, rows.frame

Names are imported when first used: the import itself loads neither torch nor pandas. Every function takes the settings
of the command line's verb of its name, in Python's words. `prunesim.machines` has what accelerators are made of,
`prunesim.methods` what pruning methods are, `prunesim.families` what kinds of models are.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from prunesim.rooms import check_rooms

check_rooms()

if TYPE_CHECKING:
    from prunesim import families, machines, methods
    from prunesim.checking import Checked, check
    from prunesim.decoders import inference
    from prunesim.families import ModelFamily
    from prunesim.machines import Accelerator
    from prunesim.masks import evaluate, finetune, generate, load, prune
    from prunesim.methods import Allocation, PruningMethod, Quantizer
    from prunesim.models import load_pruned
    from prunesim.results import Gemms, Report, Result, Rows
    from prunesim.times import measure, predict, report, run, simulate
    from pruning.config import CalibrationConfig, FinetuneConfig, PruneConfig
    from workloads import BundleHeader, BundleWriter, Layer, MaskBundle, PackedMask, UserError, __version__

_PLACES = {
    "Accelerator": "prunesim.machines",
    "Allocation": "prunesim.methods",
    "BundleHeader": "workloads",
    "BundleWriter": "workloads",
    "CalibrationConfig": "pruning.config",
    "Checked": "prunesim.checking",
    "FinetuneConfig": "pruning.config",
    "Gemms": "prunesim.results",
    "Layer": "workloads",
    "MaskBundle": "workloads",
    "ModelFamily": "prunesim.families",
    "PackedMask": "workloads",
    "PruneConfig": "pruning.config",
    "PruningMethod": "prunesim.methods",
    "Quantizer": "prunesim.methods",
    "Report": "prunesim.results",
    "Result": "prunesim.results",
    "Rows": "prunesim.results",
    "UserError": "workloads",
    "__version__": "workloads",
    "check": "prunesim.checking",
    "evaluate": "prunesim.masks",
    "families": "prunesim",
    "finetune": "prunesim.masks",
    "generate": "prunesim.masks",
    "inference": "prunesim.decoders",
    "load": "prunesim.masks",
    "load_pruned": "prunesim.models",
    "machines": "prunesim",
    "measure": "prunesim.times",
    "methods": "prunesim",
    "predict": "prunesim.times",
    "prune": "prunesim.masks",
    "report": "prunesim.times",
    "run": "prunesim.times",
    "simulate": "prunesim.times",
}

__all__ = [
    "Accelerator",
    "Allocation",
    "BundleHeader",
    "BundleWriter",
    "CalibrationConfig",
    "Checked",
    "FinetuneConfig",
    "Gemms",
    "Layer",
    "MaskBundle",
    "ModelFamily",
    "PackedMask",
    "PruneConfig",
    "PruningMethod",
    "Quantizer",
    "Report",
    "Result",
    "Rows",
    "UserError",
    "__version__",
    "check",
    "evaluate",
    "families",
    "finetune",
    "generate",
    "inference",
    "load",
    "load_pruned",
    "machines",
    "measure",
    "methods",
    "predict",
    "prune",
    "report",
    "run",
    "simulate",
]


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is not None:
        return import_module(f"{place}.{name}") if place == __name__ else getattr(import_module(place), name)
    raise AttributeError(f"module 'prunesim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
