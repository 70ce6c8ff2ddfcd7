"""How much faster does a pruned or quantized LLM really get, on which hardware, and what holds it back?

    import prunesim as ps

    rows = ps.simulate("masks/", on="vitcod", tokens=2048, set={"array.height": 16})
    rows.speedup, rows.frame

Names are imported when first used: the import itself loads neither torch nor pandas. Every function takes the settings of the
command line's verb of its name, in Python's words.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from prunesim.rooms import check_rooms

check_rooms()

if TYPE_CHECKING:
    from prunesim.masks import evaluate, generate, load, prune
    from prunesim.results import Gemms, Report, Result, Rows
    from prunesim.times import predict, report, run, simulate
    from workloads import BundleHeader, BundleWriter, Layer, MaskBundle, PackedMask, UserError, __version__

_PLACES = {
    "BundleHeader": "workloads",
    "BundleWriter": "workloads",
    "Gemms": "prunesim.results",
    "Layer": "workloads",
    "MaskBundle": "workloads",
    "PackedMask": "workloads",
    "Report": "prunesim.results",
    "Result": "prunesim.results",
    "Rows": "prunesim.results",
    "UserError": "workloads",
    "__version__": "workloads",
    "evaluate": "prunesim.masks",
    "generate": "prunesim.masks",
    "load": "prunesim.masks",
    "predict": "prunesim.times",
    "prune": "prunesim.masks",
    "report": "prunesim.times",
    "run": "prunesim.times",
    "simulate": "prunesim.times",
}

__all__ = [
    "BundleHeader",
    "BundleWriter",
    "Gemms",
    "Layer",
    "MaskBundle",
    "PackedMask",
    "Report",
    "Result",
    "Rows",
    "UserError",
    "__version__",
    "evaluate",
    "generate",
    "load",
    "predict",
    "prune",
    "report",
    "run",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'prunesim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
