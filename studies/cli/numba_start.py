"""What numba loads with the first compiled loop of a command, and prunesim does without."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

ASKS, WANTED, FLAG = "numba.np.arraymath", "scipy.linalg", "_HAVE_BLAS"


class BlasWhenUsed(MetaPathFinder):
    """numba.np.arraymath imports all of scipy.linalg, an eighth of a short command, to note whether there is a BLAS.
    While it asks, there is none: by that note numba's np.correlate and np.convolve alone choose between BLAS and a loop
    of their own; matrix products look for BLAS again where they are compiled."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        asking = sys.modules.get(ASKS)
        if fullname == WANTED and asking is not None and not hasattr(asking, FLAG):
            raise ImportError(f"{WANTED} is left for later")
        return None


def without_blas_note() -> None:
    sys.meta_path.insert(0, BlasWhenUsed())
