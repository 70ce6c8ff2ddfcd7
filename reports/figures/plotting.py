"""matplotlib as it comes: a matplotlibrc in the folder where the command runs, or of the user, changes no figure.

Imported before anything else of matplotlib. It looks for that file in the current folder first, so it is imported in
the folder of its own defaults. Where a program has imported it before, its settings stay that program's."""

import os
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path


def import_with_defaults() -> None:
    spec = find_spec("matplotlib")
    if "matplotlib" in sys.modules or spec is None or spec.origin is None:
        return
    here = None
    with suppress(OSError):  # a folder that was deleted
        here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(Path(spec.origin).parent / "mpl-data")
        import matplotlib  # noqa: F401
    finally:
        if here is not None:
            os.fchdir(here)
            os.close(here)


import_with_defaults()
