"""Seeded mask generators: shapes of irregularity without a model.

Every layer draws from its own stream, keyed by (seed, layer name), so masks do not depend on order or thread count.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import combinations
from math import comb

import numpy as np
from numba import njit

from workloads import bits
from workloads.errors import UserError
from workloads.layers import Layer, check_roles
from workloads.mask import PackedMask
from workloads.patterns import DENSE, NofM, parse_pattern

SKEW = 0.5  # row / column densities spread uniformly over density * (1 +- SKEW), less where that would exceed 1
BLOCK = 16  # side of the square blocks of the "block" generator


def stream(seed: int, name: str) -> np.random.Generator:
    key = int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:16], "little")
    return np.random.Generator(np.random.SFC64(key))


def keep_exactly(rng: np.random.Generator, rows: int, cols: int, kept: int) -> PackedMask:
    """Exactly `kept` weights kept, every such mask equally likely.

    Words of independent bits come first, at the density rounded to 1/256; random positions are then flipped until the
    count is right, which keeps the draw uniform because no position is special.
    """
    words = _bernoulli_words(rng, rows, -(-cols // 64), kept / (rows * cols))
    words &= PackedMask.dense(rows, cols).words
    missing = kept - int(bits.row_counts(words).sum())
    while missing:
        positions = rng.integers(0, rows * cols, size=4 * abs(missing) + 64)
        missing = _flip_towards(words, cols, positions, missing)
    return PackedMask(words, cols)


def _bernoulli_words(rng: np.random.Generator, rows: int, n_words: int, density: float) -> np.ndarray:
    """Random words whose bits are set with probability round(256 * density) / 256: one draw per binary digit."""
    target = round(256 * density)
    if target == 256:
        return np.full((rows, n_words), ~np.uint64(0), dtype=np.uint64)
    words = np.zeros((rows, n_words), dtype=np.uint64)
    lowest = (target & -target).bit_length() - 1
    for digit in range(max(lowest, 0), 8):  # a set digit: halve the zeros; a clear one: halve the ones
        draw = rng.integers(0, 1 << 64, size=words.shape, dtype=np.uint64)
        if target >> digit & 1:
            words |= draw
        else:
            words &= draw
    return words


@njit(cache=True)
def _flip_towards(words, cols, positions, missing):
    """Sets (missing > 0) or clears (missing < 0) bits at `positions` until none is missing; returns what still is."""
    for position in positions:
        if missing == 0:
            break
        r, c = position // cols, position % cols
        bit = np.uint64(1) << np.uint64(c % 64)
        is_set = (words[r, c // 64] & bit) != 0
        if is_set == (missing < 0):
            words[r, c // 64] ^= bit
            missing += 1 if missing < 0 else -1
    return missing


def unstructured(rng: np.random.Generator, rows: int, cols: int, density: float) -> PackedMask:
    return keep_exactly(rng, rows, cols, round(rows * cols * density))


def n_of_m(rng: np.random.Generator, rows: int, cols: int, pattern: NofM) -> PackedMask:
    """Exactly n kept in every run of m, all choices equally likely; cols must be a multiple of m."""
    n_runs = rows * cols // pattern.m
    if comb(pattern.m, pattern.n) <= 4096:
        choices = np.zeros((comb(pattern.m, pattern.n), pattern.m), dtype=bool)
        for i, kept in enumerate(combinations(range(pattern.m), pattern.n)):
            choices[i, list(kept)] = True
        runs = choices[rng.integers(0, len(choices), size=n_runs, dtype=np.uint16)]
    else:
        order = rng.random((n_runs, pattern.m), dtype=np.float32).argsort(axis=1, kind="stable")
        runs = np.zeros(order.shape, dtype=bool)
        np.put_along_axis(runs, order[:, : pattern.n], True, axis=1)
    return PackedMask.from_dense(runs.reshape(rows, cols))


def block(rng: np.random.Generator, rows: int, cols: int, density: float) -> PackedMask:
    """Whole BLOCK x BLOCK blocks kept or pruned (edge blocks are cut off)."""
    grid_rows, grid_cols = -(-rows // BLOCK), -(-cols // BLOCK)
    grid = keep_exactly(rng, grid_rows, grid_cols, round(grid_rows * grid_cols * density)).to_dense()
    return PackedMask.from_dense(np.kron(grid, np.ones((BLOCK, BLOCK), dtype=bool))[:rows, :cols])


def row_skewed(rng: np.random.Generator, rows: int, cols: int, density: float) -> PackedMask:
    """Row densities differ: uniform over density * (1 - SKEW) .. density * (1 + SKEW)."""
    return PackedMask.from_dense(rng.random((rows, cols), dtype=np.float32) < _skewed(rng, rows, density)[:, None])


def column_skewed(rng: np.random.Generator, rows: int, cols: int, density: float) -> PackedMask:
    """Column densities differ: uniform over density * (1 - SKEW) .. density * (1 + SKEW)."""
    return PackedMask.from_dense(rng.random((rows, cols), dtype=np.float32) < _skewed(rng, cols, density)[None, :])


def _skewed(rng: np.random.Generator, count: int, density: float) -> np.ndarray:
    skew = min(SKEW, 1 / density - 1)
    spread = np.linspace(1 - skew, 1 + skew, count) if count > 1 else np.ones(1)
    return rng.permutation(density * spread).astype(np.float32)


GENERATORS: dict[str, Callable[[np.random.Generator, int, int, float], PackedMask]] = {
    "unstructured": unstructured,
    "block": block,
    "row-skewed": row_skewed,
    "column-skewed": column_skewed,
}


def generate(
    layers: Iterable[Layer],
    pattern: str,
    density: float,
    seed: int,
    role_density: dict[str, float] | None = None,
    patterns: Mapping[str, str] | None = None,
) -> Iterator[tuple[Layer, PackedMask]]:
    """One mask per layer, in order; `pattern` is a key of GENERATORS or "N:M" (whose density is n/m, for every role).
    `patterns`, by layer name: "dense" or "unstructured" in its place.

    Raises UserError, before the first mask is asked for, for an unknown pattern or role, a density outside (0, 1], N:M
    that does not divide in_features, and role densities beside N:M.
    """
    layers, own = list(layers), patterns or {}
    densities = {layer.role: density for layer in layers} | (role_density or {})
    check_roles(list(role_density or {}), [layer.role for layer in layers if own.get(layer.name) != DENSE])
    for role, value in densities.items():
        if not isinstance(value, int | float) or not 0 < value <= 1:
            raise UserError(f"density of {role} is a fraction in (0, 1], not {value!r}; 0.5 keeps half of the weights")
    nofm = None if pattern in GENERATORS else parse_generator(pattern)
    if nofm is not None:
        if role_density:
            raise UserError(f"pattern {nofm} keeps {nofm.n / nofm.m:g} of every role; leave role densities out")
        for layer in layers:
            if layer.name not in own:
                nofm.check_divides(layer.in_features, layer.name)
    return _drawn(layers, pattern, nofm, densities, seed, own)


def _drawn(
    layers: list[Layer],
    pattern: str,
    nofm: NofM | None,
    densities: dict[str, float],
    seed: int,
    own: Mapping[str, str],
) -> Iterator[tuple[Layer, PackedMask]]:
    for layer in layers:
        rng = stream(seed, layer.name)
        stated = own.get(layer.name, pattern)
        if stated == DENSE:
            yield layer, PackedMask.dense(*layer.shape)
        elif stated in GENERATORS:
            yield layer, GENERATORS[stated](rng, layer.out_features, layer.in_features, densities[layer.role])
        else:
            assert nofm is not None
            yield layer, n_of_m(rng, layer.out_features, layer.in_features, nofm)


def parse_generator(pattern: str) -> NofM:
    """The N:M of a pattern that is no generator name."""
    if ":" not in pattern:
        raise UserError(f"unknown pattern {pattern!r}; use {', '.join(GENERATORS)} or N:M such as 2:4")
    nofm = parse_pattern(pattern)
    assert nofm is not None
    return nofm
