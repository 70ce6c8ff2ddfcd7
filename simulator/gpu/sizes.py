"""Sizes as users give them: whole numbers, one or an array each."""

import numpy as np
from numpy.typing import ArrayLike

from workloads.errors import UserError

MAX_SIZE = 1 << 24  # of m, n and k: products of three stay exact enough in float64


def whole_numbers(most: int = MAX_SIZE, least: int = 1, **values: ArrayLike) -> list[np.ndarray]:
    """Each as (shapes,) int64, broadcast against each other. Raises UserError naming what is not a whole number from
    `least` to `most`."""
    checked = []
    for name, value in values.items():
        array = np.asarray(value)
        if not np.issubdtype(array.dtype, np.integer):
            raise UserError(f"{name} must be whole numbers, not {array.dtype}")
        if array.size and (array.min() < least or array.max() > most):
            bad = array.min() if array.min() < least else array.max()
            raise UserError(f"{name} = {bad}: sizes go from {least} to {most}")
        checked.append(np.atleast_1d(array).astype(np.int64))
    return [np.ascontiguousarray(array) for array in np.broadcast_arrays(*checked)]
