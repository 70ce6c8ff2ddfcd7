"""SparTen's compute units: filters packed onto them, and the expected time of their slowest under sparse inputs."""

import math
from functools import lru_cache

import numpy as np
from numba import njit

from workloads.bits import popcount

NODES = 7  # numbers of nonzero inputs of a chunk that are looked at, where they are not few
FEW = 4
NEGLIGIBLE = 1e-9


@njit(cache=True, nogil=True)
def chunk_counts(words: np.ndarray, width: int) -> np.ndarray:
    """Kept weights of every row and chunk of `width` <= 4 mask words: (rows, n_words) -> (rows, chunks) uint16."""
    rows, n_words = words.shape
    counts = np.zeros((rows, -(-n_words // width)), dtype=np.uint16)
    whole = n_words // width
    for r in range(rows):
        for w in range(width):  # outside: the loop over chunks counts many at a time
            for c in range(whole):
                counts[r, c] += popcount(words[r, c * width + w])
        for w in range(whole * width, n_words):
            counts[r, whole] += popcount(words[r, w])
    return counts


@njit(cache=True, nogil=True)
def densest_first(kept: np.ndarray) -> np.ndarray:
    """(rows,) kept weights -> the rows, the densest first, equals in order; sorted by counting."""
    most = kept.max()
    places = np.zeros(most + 2, dtype=np.int64)
    for n in kept:
        places[most - n + 1] += 1
    places = np.cumsum(places)
    order = np.empty(len(kept), dtype=np.int64)
    # places[b] is where the next row of that many kept weights goes: a stable counting sort, densest first
    for r in range(len(kept)):
        order[places[most - kept[r]]] = r
        places[most - kept[r]] += 1
    return order


@njit(cache=True, nogil=True)
def pack_units(
    counts: np.ndarray, order: np.ndarray, units: int, by_chunk: bool,
    unit_counts: np.ndarray, cycles: np.ndarray, values: np.ndarray,
) -> None:  # fmt: skip
    """Fills unit_counts (groups, chunks, units), cycles and values (groups, chunks).

    counts (rows, chunks) uint16 kept weights; order (groups, units or 2 * units): rows of CU u at u and units + u, -1:
    none.
    by_chunk: in every chunk, the group's filters are sorted anew and the densest shares a CU with the sparsest.
    """
    groups, size = order.shape
    chunks = counts.shape[1]
    members = np.empty((chunks, size), dtype=np.int32)
    tally = np.zeros(counts.max() + 1, dtype=np.int64)
    # members (chunks, size) are the group's counts, a chunk side by side; -1 where there is no filter. CU u owns places
    # u and units + u.
    for g in range(groups):
        for i in range(size):
            row = order[g, i]
            for c in range(chunks):
                members[c, i] = counts[row, c] if row >= 0 else -1
        for c in range(chunks):
            if by_chunk:
                pair_by_count(members[c], tally, units)
            slowest, total = np.int32(0), np.int32(0)
            for u in range(units):
                kept = np.int32(max(members[c, u], 0))
                busy = np.int32(kept + (members[c, u] == 0))
                if size > units:
                    kept = np.int32(kept + max(members[c, units + u], 0))
                    busy = np.int32(busy + max(members[c, units + u], 0) + (members[c, units + u] == 0))
                unit_counts[g, c, u] = kept
                total = np.int32(total + kept)
                slowest = max(slowest, busy)
            cycles[g, c], values[g, c] = slowest, total


@njit(cache=True, nogil=True)
def pair_by_count(members: np.ndarray, tally: np.ndarray, units: int) -> None:
    """Sorts members (2 * units,) by counting: CU units - 1 gets the densest and the sparsest, the one before the next
    of both; absent ones (-1) are sparsest, as in `order`. `tally` is scratch, zeros before and after."""
    present = 0
    for member in members:
        if member >= 0:
            tally[member] += 1
            present += 1
    members[:] = -1
    place = 0
    # `place` filters are dealt out, densest first: the first `units` from CU units - 1 down to 0, the others from there
    # on up
    for count in range(len(tally) - 1, -1, -1):
        for _ in range(tally[count]):
            members[units - 1 - place if place < units else place] = count
            place += 1
        tally[count] = 0
        if place == present:
            break


def expected_cycles(counts: np.ndarray, filters: np.ndarray, sides: np.ndarray, density: float) -> np.ndarray:
    """(groups, chunks) expected cycles of the slowest CU, inputs nonzero at random with probability `density`.

    counts (groups, chunks, units) kept weights of a CU; filters (groups, units): 0, 1 or 2 of them; sides (chunks,)
    inputs.
    """
    result = np.zeros(counts.shape[:2])
    for side in np.unique(sides):
        chunks = np.flatnonzero(sides == side)
        tables = match_tables(int(side), density)
        result[:, chunks] = _expected(np.ascontiguousarray(counts[:, chunks]), filters, *tables)
    return result


@lru_cache(maxsize=16)
def match_tables(side: int, density: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Weights (nodes,) of numbers a of nonzero inputs of `side`; P(busy cycles <= x) given a of a CU with one filter,
    (nodes, side + 1 kept, 2 * side + 1), and with two, taken as equally dense, (nodes, 2 * side + 1 kept, 2 * side +
    1); and the `_span` of both."""
    from scipy.stats import binom  # only here: importing it takes a second

    mean, spread = side * density, np.sqrt(side * density * (1 - density))
    low, high = max(0, math.floor(mean - 3 * spread)), min(side, math.ceil(mean + 3 * spread))
    # few nonzero inputs: the expected maximum bends too much to be interpolated
    nodes = (
        np.arange(low, high + 1) if low <= FEW else np.unique(np.linspace(low, high, NODES).round().astype(np.int64))
    )
    every = np.arange(side + 1)
    hats = np.stack([np.interp(every, nodes, hat) for hat in np.eye(len(nodes))])
    weights = hats @ binom.pmf(every, side, density)
    single = np.ones((len(nodes), side + 1, 2 * side + 1))
    double = np.ones((len(nodes), 2 * side + 1, 2 * side + 1))
    for node, a in enumerate(nodes):
        busy = _busy_cycles(side, int(a))
        single[node, :, : side + 1] = np.cumsum(busy, axis=1)
        for kept in range(2 * side + 1):
            double[node, kept] = np.cumsum(np.convolve(busy[kept // 2], busy[kept - kept // 2]))
    return weights, single, double, _span(single), _span(double)


def _span(table: np.ndarray) -> np.ndarray:
    """(nodes, kept, 2): where P(busy cycles <= x) leaves 0, and where it reaches 1."""
    return np.stack([(table < NEGLIGIBLE).sum(axis=2), (table < 1 - NEGLIGIBLE).sum(axis=2)], axis=2)


def _busy_cycles(size: int, drawn: int) -> np.ndarray:
    """P(max(1, matches) = x) of a filter, `drawn` of `size` inputs being nonzero: (kept 0..size, x 0..size)."""
    from scipy.special import gammaln

    kept, x = np.arange(size + 1)[:, None], np.arange(size + 1)
    possible = (x <= kept) & (x <= drawn) & (drawn - x <= size - kept)
    x = np.where(possible, x, np.maximum(0, drawn + kept - size))  # any possible value, for the logarithms

    def choose(n, k):
        return gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)

    logs = choose(kept, x) + choose(size - kept, drawn - x) - choose(size, drawn)
    busy = np.where(possible, np.exp(logs), 0.0)
    busy[:, 1] += busy[:, 0]
    busy[:, 0] = 0.0
    return busy


@njit(cache=True, nogil=True)
def _expected(counts, filters, weights, single, double, single_span, double_span):
    """E max = the sum over x >= 0 of 1 - the product over CUs of P(busy cycles <= x), where that is neither 0 nor 1."""
    groups, chunks, units = counts.shape
    result = np.zeros((groups, chunks))
    product = np.empty(single.shape[2])
    for g in range(groups):
        for c in range(chunks):
            for k in range(len(weights)):
                low = high = 0
                for u in range(units):
                    if filters[g, u] > 0:
                        span = single_span if filters[g, u] == 1 else double_span
                        low, high = max(low, span[k, counts[g, c, u], 0]), max(high, span[k, counts[g, c, u], 1])
                # below `low` some CU is busy for certain, from `high` on none is: only between is the product looked at
                product[low:high] = 1.0
                for u in range(units):
                    if filters[g, u] > 0:
                        row = (single if filters[g, u] == 1 else double)[k, counts[g, c, u]]
                        for x in range(low, high):
                            product[x] *= row[x]
                result[g, c] += weights[k] * (high - product[low:high].sum())
    return result
