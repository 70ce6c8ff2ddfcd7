"""What can be said of a layer without simulating it: full masks, patterns, bytes, the ends of the roofline."""

import importlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from simulator.cycles import Infeasible
from validation.comparison import Comparison, error_of, percent, table
from validation.comparisons.bytes_moved import SETS as BYTE_SETS
from validation.comparisons.bytes_moved import mask_of, total_bits
from validation.runs import FREE_MEMORY, ROOMY, n_of_m, random_mask, run, target_of
from validation.twins import vitcod_paper as vitcod_paper_twin
from validation.twins.twin import Twin
from workloads.mask import PackedMask

Pair = tuple[float, float]  # model, closed form
SEED = 11
SHAPES = ((4096, 4096), (11008, 4096), (4096, 11008), (1000, 777), (33, 5000))
TOKENS = (1, 16, 100, 2048)
FULL_BITS = 77  # a weight of four one-bits: what the twin's closed form of bitwave takes
NO_LIMITS = ("buffers.weight_bytes_per_cycle=0", "buffers.activation_bytes_per_cycle=0")
EVEN = (4096, 4096, 64)  # outputs, inputs, tokens that every array divides
EVENLY = {
    "stc": 1,
    "sparten": 1,
    "eie": 1,
    "dstc": 1,
    "highlight": 1,
    "vegeta": 1,
    "vitcod": 1,
    "stripes": 1,
    "bitwave": 7 / 8,
}


def full_masks(name: str) -> Iterator[Pair]:
    """Compute cycles of a full mask on the small machines of the contract suite and on the preset."""
    module = importlib.import_module(f"validation.twins.{'systolic' if name.startswith('tpu') else name}")
    case: Twin = module.TWIN
    assert case.full_mask_cycles
    rng = np.random.default_rng((SEED, len(name)))
    machines: list[tuple[tuple[str, ...], list[tuple[int, int, int]]]] = []
    if name == case.name:
        small = [tuple(int(n) for n in rng.integers((1, 16, 1), (41, 151, 10))) for _ in range(10)]
        machines += [((*sets, *ROOMY), small) for sets in case.machines]  # type: ignore[misc]
    big = [(rows, cols, tokens) for rows, cols in SHAPES for tokens in TOKENS]
    one = ("array.clusters=1",) if name == "sparten" else ()  # its closed form is of one cluster
    machines.append(((*ROOMY, *one), big))
    for sets, shapes in machines:
        spec = target_of(name, sets).spec
        for rows, cols, tokens in shapes:
            weights = None
            if target_of(name, sets).reads_values:
                rows, cols = min(rows, 512), min(cols, 1000)
                weights = np.full((rows, cols), FULL_BITS)
            found = run(name, sets, PackedMask.dense(rows, cols), tokens, weight_bits=None if weights is None else 8,
                        weights=weights)  # fmt: skip
            taken = (found.sparse.mapping,) if case.arranged else ()
            yield found.sparse.compute_cycles, case.full_mask_cycles(spec, rows, cols, tokens, *taken)


def even_division(name: str) -> Iterator[Pair]:
    """The dense baseline of the preset where its sides divide evenly: outputs x inputs x tokens / MACs."""
    rows, cols, tokens = EVEN
    weights = np.ones((rows, cols), dtype=np.int16) if name == "bitwave" else None
    found = run(name, ROOMY, PackedMask.dense(rows, cols), tokens, weights=weights)
    yield found.dense.compute_cycles, rows * cols * tokens / target_of(name, ROOMY).spec.macs * EVENLY[name]


def ranked(inner: int, outer: int, rows: int, runs: int) -> PackedMask:
    """4 of `inner` weights in 2 of every `outer` blocks, at random places."""
    rng = np.random.default_rng((SEED, inner, outer))
    blocks = rng.random((rows, runs, outer, 1)).argsort(axis=2) < 2
    places = rng.random((rows, runs, outer, inner)).argsort(axis=3) < 4
    return PackedMask.from_dense((blocks & places).reshape(rows, runs * outer * inner))


def patterns(name: str) -> Iterator[Pair]:
    """Dense compute cycles over those of a mask that uses every slot the hardware gives its pattern."""

    def rate(mask: PackedMask, tokens: int, sets: tuple[str, ...] = (), **layer: Any) -> float:
        found = run(name, (*ROOMY, *sets), mask, tokens, **layer)
        return found.dense.compute_cycles / found.sparse.compute_cycles

    if name == "stc":
        for n, speedup in ((1, 2), (2, 2), (3, 1)):
            yield rate(n_of_m(512, 1024, n, 4), 64), speedup
    if name == "vegeta":
        for n, speedup in ((1, 4), (2, 2), (3, 1)):
            yield rate(n_of_m(1024, 512, n, 4), 64), speedup
    if name == "highlight":
        for inner in range(4, 9):
            for outer in range(2, 5):
                yield rate(ranked(inner, outer, 128, 840 * 12 // (inner * outer)), 5), inner * outer / 8
    if name == "dstc":
        for n, speedup in ((8, 2), (4, 2), (12, 1)):
            across = n_of_m(256, 256, n, 16).to_dense().T  # n of every 16 outputs
            yield rate(PackedMask.from_dense(across.copy()), 64), speedup
    if name == "sparten":
        for n in (16, 32, 64):
            yield rate(n_of_m(2048, 1024, n, 128), 32), 128 / n
    if name == "vitcod":
        for n, m in ((32, 64), (16, 64), (2, 4)):
            yield rate(n_of_m(256, 4096, n, m), 64, ("mapping.tile_cols=4096",)), m / n
    if name == "stripes":
        for bits in (2, 4, 5, 8, 16):
            yield rate(PackedMask.dense(4096, 1024), 512, weight_bits=bits), 16 / bits
    if name == "bitwave":
        for value, columns in ((1, 1), (3, 2), (-85, 4), (127, 7)):
            weights = np.full((64, 128), value)
            yield rate(PackedMask.dense(64, 128), 32, weight_bits=8, weights=weights), 7 / columns
    if name == "systolic":
        for n in (1, 2):
            packed = run(name, (f"array.nm={n}:4", "array.rows=16", "array.cols=16"), n_of_m(64, 128, n, 4), 50).sparse
            dense = run(name, ("array.rows=16", "array.cols=16"), n_of_m(64, 128, n, 4), 50).sparse
            yield packed.compute_cycles + 1, (dense.compute_cycles + 1) * n / 4  # SCALE-Sim counts from 0
    if name == "eie":
        for n in (16, 32):  # every PE has n of its 64 rows in every column
            kept = n_of_m(64 * 64, 64, n, 64).to_dense().reshape(64, 64, 64).transpose(2, 0, 1).reshape(4096, 64)
            found = run(name, (*ROOMY, "array.fifo_depth=1"), PackedMask.from_dense(kept), 3).sparse
            yield found.compute_cycles, 3 * int(np.maximum(1, eie_entries(kept)).max(axis=0).sum())
    if name == "sigma":
        for num_ms in (64, 128):  # rows of num_ms / 4 weights: four a fold
            mask = n_of_m(400, 512, num_ms // 16, 128)
            sets = (f"array.num_ms={num_ms}", f"array.dn_bw={num_ms}", *NO_LIMITS)
            found = run(name, (*ROOMY, *sets), mask, 30).sparse
            yield found.compute_cycles, 100 * (1 + 30 + 2 + math.log2(num_ms))


def eie_entries(kept: np.ndarray, pes: int = 64) -> np.ndarray:
    """(PEs, columns): kept weights and padding zeros of 4-bit runs, by the places of kept weights alone."""
    counts = np.zeros((pes, kept.shape[1]), dtype=np.int64)
    for p in range(pes):
        for c in range(kept.shape[1]):
            places = np.flatnonzero(kept[p::pes, c])
            counts[p, c] = len(places) + (np.diff(places, prepend=-1) - 1).clip(0).__floordiv__(16).sum()
    return counts


def bytes_once(name: str) -> Iterator[Pair]:
    """DRAM bytes where all fits on chip and so moves once: bits of the format, counted on the dense mask."""
    for density in (0.1, 0.4):
        for tokens in (1, 8):
            mask, weights = mask_of(name, density)
            sets = (*ROOMY, *BYTE_SETS.get(name, ()))
            found = run(
                name, sets, mask, tokens, weight_bits=8 if weights is not None else None, weights=weights
            ).sparse
            yield found.total_bytes, total_bits(name, target_of(name, sets).spec, mask, weights, tokens) / 8


def roofline(name: str) -> Iterator[Pair]:
    """With next to no bandwidth a layer takes its bytes; with endless bandwidth, buffers and ports, its compute cycles
    and two."""
    for density in (0.1, 0.5):
        kept = random_mask(256, 1024, density, (SEED, 1))
        weights = None
        if name == "bitwave":
            weights = np.random.default_rng((SEED, 2)).integers(-127, 128, kept.shape)
        layer: dict[str, Any] = {"weight_bits": 8, "weights": weights} if weights is not None else {}
        for tokens in (1, 64):
            starved = run(name, (*ROOMY, *NO_LIMITS, "dram.bandwidth_gbps=0.001"), kept, tokens, **layer).sparse
            spec = target_of(name, (*ROOMY, *NO_LIMITS, "dram.bandwidth_gbps=0.001")).spec
            yield (
                starved.cycles,
                starved.total_bytes * spec.clock.mhz / (1e3 * spec.dram.bandwidth_gbps * spec.dram.efficiency),
            )
            free = run(name, (*ROOMY, *NO_LIMITS, FREE_MEMORY), kept, tokens, **layer).sparse
            yield free.cycles, free.compute_cycles + 2  # the first load and the last store take a cycle each


CHECKS = {
    "full mask: compute cycles in closed form, small machines and preset": full_masks,
    "full mask, even sides, preset: outputs x inputs x tokens / MACs": even_division,
    "patterned mask: gain over the full mask, or cycles, at the pattern's rate": patterns,
    "DRAM bytes where all fits on chip: bits of the format": bytes_once,
    "roofline ends: cycles = bytes / bandwidth; cycles = compute cycles + 2": roofline,
}


def compare(name: str) -> Comparison:
    rows, errors = [], []
    for what, check in CHECKS.items():
        if check is even_division and name not in EVENLY:
            continue
        try:
            found = [error_of(*pair) for pair in check(name)]
        except Infeasible as error:
            raise RuntimeError(f"{name}: {what}: {error}") from None
        if not found:
            continue
        rows.append((what, len(found), sum(error != 0 for error in found), percent(max(found, key=abs), sign=True)))
        errors += found
    says = SAYS.get(name, ENDS)
    head = ("closed form", "cases", "cases that differ", "largest error")
    return Comparison(name, "closed forms", "own rule", tuple(errors), says, [table(head, rows)])


ENDS = (
    "The starved end of the roofline differs by what is computed while nothing moves, after the first load, or before "
    "the last store; and the search may take up to 1/64 more cycles than the fewest for less energy."
)
SAYS = {"sparten": f"Full masks are run on one cluster, which has a closed form for every shape. {ENDS}",
        "eie": f"SRAM is set large enough for every layer, which the published one is not. {ENDS}"}  # fmt: skip


def vitcod_paper() -> Comparison:
    """Dense cycles: the honest ones, and those that the published program prints."""
    rng = np.random.default_rng(SEED)
    honest, printed = [], []
    for rows, cols in [*SHAPES, *rng.integers(1, 2000, (20, 2)).tolist()]:
        for width, height in ((64, 64), (32, 16)):
            sets = (f"array.width={width}", f"array.height={height}")
            found = run("vitcod-paper", sets, PackedMask(np.zeros((rows, -(-cols // 64)), np.uint64), cols))
            honest.append(error_of(found.dense.cycles, math.ceil(rows * cols / (width * height))))
            printed.append(error_of(found.published_dense_cycles or 0,
                                    vitcod_paper_twin.twin_published_dense(rows, cols, width, height)))  # fmt: skip
    rows_of_table = [
        ("dense cycles, outputs x inputs / PEs", len(honest), sum(e != 0 for e in honest), percent(max(honest))),
        ("dense cycles as the program prints them", len(printed), sum(e != 0 for e in printed), percent(max(printed))),
    ]
    head = ("closed form", "cases", "cases that differ", "largest error")
    return Comparison("vitcod-paper", "closed forms", "own rule", (*honest, *printed), "", [table(head, rows_of_table)])
