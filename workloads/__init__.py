"""Ground floor: layers, masks, mask bundles, models and result rows. Importing it never loads torch.

The public names are imported on first use, so that the command line starts at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from workloads._version import __version__

if TYPE_CHECKING:
    from workloads.bundle import BundleHeader, MaskBundle
    from workloads.bundle_writer import BundleWriter
    from workloads.errors import UserError
    from workloads.layers import Layer
    from workloads.mask import PackedMask

_PLACES = {
    "BundleHeader": "workloads.bundle",
    "BundleWriter": "workloads.bundle_writer",
    "Layer": "workloads.layers",
    "MaskBundle": "workloads.bundle",
    "PackedMask": "workloads.mask",
    "UserError": "workloads.errors",
}

__all__ = ["BundleHeader", "BundleWriter", "Layer", "MaskBundle", "PackedMask", "UserError", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'workloads' has no attribute {name!r}")
