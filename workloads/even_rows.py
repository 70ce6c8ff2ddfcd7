"""Random masks that keep as many weights of every row, as pruning by rows does: lanes of an array that hold a row each
then wait for each other less than under masks of the same count anywhere."""

import numpy as np
from numba import njit

from workloads.mask import PackedMask


def even_rows(seed: int, rows: int, cols: int, kept: int) -> PackedMask:
    """Exactly `kept` of all, of every row as many, and one more in the first of them where that does not come out even;
    places within a row are drawn, all alike."""
    each, more = divmod(kept, rows)
    words = np.zeros((rows, -(-cols // 64)), dtype=np.uint64)
    _draw(words, cols, each, more, seed)
    return PackedMask(words, cols)


@njit(cache=True)
def _draw(words, cols, each, more, seed):  # pragma: no cover (compiled)
    np.random.seed(seed)
    for r in range(len(words)):
        missing = each + (r < more)
        for c in range(cols):
            if missing and np.random.random() * (cols - c) < missing:
                words[r, c // 64] |= np.uint64(1) << np.uint64(c % 64)
                missing -= 1
