"""A model on a mask, without bundles and stores; random masks that are the same on every machine."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from simulator.accelerators import Accelerator
from simulator.accelerators.named import open_accelerator
from simulator.cycles import Outcome
from simulator.statistics import Statistics
from simulator.work import Work
from workloads.mask import PackedMask

ROOMY = tuple(f"buffers.{name}_kib=65536" for name in ("weight", "index", "activation", "output"))
FREE_MEMORY = "dram.bandwidth_gbps=1e9"  # nothing waits for it
CHUNK_ROWS = 256  # of a random mask drawn at a time


@lru_cache(maxsize=256)
def target_of(name: str, sets: tuple[str, ...] = ()) -> Accelerator:
    return open_accelerator(name, sets)


def random_mask(rows: int, cols: int, density: float, seed: int | Sequence[int]) -> PackedMask:
    """Every weight kept on its own with probability `density`."""
    rng = np.random.default_rng(seed)
    words = []
    for start in range(0, rows, CHUNK_ROWS):
        kept = rng.random((min(CHUNK_ROWS, rows - start), cols), dtype=np.float32) < density
        words.append(PackedMask.from_dense(kept).words)
    return PackedMask(np.concatenate(words), cols)


def n_of_m(rows: int, cols: int, n: int, m: int, seed: int = 0) -> PackedMask:
    """Exactly n of every m inputs kept, at random places; m divides cols."""
    order = np.random.default_rng(seed).random((rows, cols // m, m), dtype=np.float32).argsort(axis=2)
    return PackedMask.from_dense((order < n).reshape(rows, cols))


def codes_of(weights: np.ndarray) -> dict[str, np.ndarray]:
    """8-bit codes of integers in -128..127, one a byte, with zero points of 128."""
    rows = len(weights)
    return {
        "codes": (weights + 128).astype(np.uint8),
        "scale": np.ones((rows, 1), np.float32),
        "zero": np.full((rows, 1), 128, np.uint8),
    }


def run(
    name: str,
    sets: Sequence[str],
    mask: PackedMask,
    tokens: int = 1,
    *,
    weight_bits: int | None = None,
    group_size: int | None = None,
    density: float = 1.0,
    weights: np.ndarray | None = None,
) -> Outcome:
    """weights: integers (rows, cols), for models that read values. Raises Infeasible where the layer does not fit."""
    target = target_of(name, tuple(sets))
    values = codes_of(weights) if weights is not None else {}
    statistics = Statistics(target.gather(mask, lambda: values))
    work = Work(mask.rows, mask.cols, mask.nnz, tokens, weight_bits, group_size, density)
    return target.evaluate(work, statistics)
