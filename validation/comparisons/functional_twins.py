"""Functional twins: slow programs of validation/twins that move integers, on random small layers.

A twin is told the mask, the machine and the mapping that the model says it chose; all else it works out on its own. It
multiplies real integers, so that its sums against X W^T say whether the schedule that both count is a whole product.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from simulator.accelerators.granular import GranularAccelerator
from simulator.cycles import Infeasible, LayerCycles
from simulator.statistics import Statistics
from simulator.work import Work
from validation.comparison import Comparison, error_of, percent, table
from validation.runs import FREE_MEMORY, ROOMY, run, target_of
from validation.twins import bitwave, engine, sigma, stripes, vitcod
from validation.twins.twin import TileRun, Twin
from workloads.mask import PackedMask

BYTES = ("weight_bytes", "metadata_bytes", "scale_bytes", "activation_bytes", "output_bytes")
SEED = 4
SHAPES = (1, 40, 1, 150, 1, 9)  # rows, inputs and tokens: from, to
DENSITIES = (0.0, 0.1, 0.5, 0.9, 1.0)
BITS = ((None, None), (4, None), (4, 16), (8, 32))
SHRUNK = ("array.rows=4", "array.cols=3")  # 128 x 128 registers are too many to move one by one


@dataclass
class Tally:
    """`errors`: of each case that fits, the largest of all quantities compared."""

    errors: list[float] = field(default_factory=list)
    unfit: int = 0
    cycles_differ: int = 0
    bytes_differ: int = 0
    bytes_compared: int = 0
    products_wrong: int = 0

    def add(self, cycles: Sequence[tuple[float, float]], moved: Sequence[tuple[float, float]], right: bool) -> None:
        """(model, twin) of every count of cycles, and of bytes; `right`: sums and uses are those of X W^T."""
        errors = [error_of(model, twin) for model, twin in (*cycles, *moved)]
        self.errors.append(max(errors, key=abs))
        self.cycles_differ += any(model != twin for model, twin in cycles)
        self.bytes_differ += any(model != twin for model, twin in moved)
        self.bytes_compared += bool(moved)
        self.products_wrong += not right


@dataclass(frozen=True)
class Layer:
    kept: np.ndarray
    weights: np.ndarray
    inputs: np.ndarray
    weight_bits: int | None = None
    group_size: int | None = None

    @property
    def mask(self) -> PackedMask:
        return PackedMask.from_dense(self.kept)

    @property
    def work(self) -> Work:
        rows, cols = self.kept.shape
        return Work(rows, cols, int(self.kept.sum()), len(self.inputs), self.weight_bits, self.group_size)

    def right(self, outputs: np.ndarray, uses: np.ndarray) -> bool:
        sums = np.array_equal(outputs, self.inputs @ self.weights.T)
        return sums and np.array_equal(uses, self.kept * len(self.inputs))


def random_layer(rng: np.random.Generator, follows: Callable[[np.ndarray], np.ndarray] | None, bits: bool) -> Layer:
    """`follows` is applied to every second mask; `bits`: stored widths and group sizes vary too."""
    rows, cols, tokens = (int(rng.integers(low, high + 1)) for low, high in zip(SHAPES[::2], SHAPES[1::2], strict=True))
    kept = rng.random((rows, cols)) < rng.choice(DENSITIES)
    if follows and rng.random() < 0.5:
        kept = follows(kept)
    drawn = rng.integers(-9, 10, (rows, cols))
    weights = np.where(kept, np.where(drawn == 0, 3, drawn), 0)
    inputs = rng.integers(-9, 10, (tokens, cols))
    return Layer(kept, weights, inputs, *(BITS[rng.integers(len(BITS))] if bits else (None, None)))


def by_granules(tally: Tally, case: Twin, sets: tuple[str, ...], layer: Layer) -> None:
    """Computing, tiles, memory and bytes."""
    target = target_of(case.name, sets)
    found = run(
        case.name, sets, layer.mask, len(layer.inputs), weight_bits=layer.weight_bits, group_size=layer.group_size
    ).sparse
    statistics = Statistics(target.gather(layer.mask, dict))
    assert isinstance(target, GranularAccelerator)
    granules = target.granules(statistics)
    twin = engine.run_layer(
        case, target.spec, layer.weights, layer.kept, layer.inputs, layer.work, found.mapping, granules.granule,
        granules.stationary, granules.act_reads, granules.token_step,
    )  # fmt: skip
    tally.add(*_counts(found, twin), layer.right(twin.outputs, twin.uses))


def by_layer(tally: Tally, case: Twin, sets: tuple[str, ...], layer: Layer) -> None:
    """Computing alone; memory has other checks."""
    target = target_of(case.name, sets)
    reads = target.reads_values
    found = run(
        case.name, sets, layer.mask, len(layer.inputs), weight_bits=8 if reads else layer.weight_bits,
        group_size=None if reads else layer.group_size, weights=layer.weights if reads else None,
    ).sparse  # fmt: skip
    assert case.run_layer
    taken = (found.mapping,) if case.arranged else ()
    twin = case.run_layer(target.spec, layer.weights, layer.kept, layer.inputs, *taken)
    assert isinstance(twin, TileRun)
    tally.add([(found.compute_cycles, twin.cycles)], [], layer.right(twin.outputs, twin.uses))


def by_vitcod(tally: Tally, case: Twin, sets: tuple[str, ...], layer: Layer) -> None:
    """Its own mapping of the model, memory and bytes included."""
    found = run(
        case.name, sets, layer.mask, len(layer.inputs), weight_bits=layer.weight_bits, group_size=layer.group_size
    ).sparse
    mapping, spec = vitcod.parse_mapping(found.mapping), target_of(case.name, sets).spec
    twin = vitcod.run_twin(spec, layer.weights, layer.kept, layer.inputs, mapping, layer.work)
    tally.add(*_counts(found, twin), layer.right(twin.outputs, twin.uses))


def by_sigma(tally: Tally, case: Twin, sets: tuple[str, ...], layer: Layer) -> None:
    """Computing, folds and distribution; then a tile of tokens and an order, walked fold by fold."""
    spec, tokens = target_of(case.name, sets).spec, len(layer.inputs)
    found = run(case.name, sets, layer.mask, tokens).sparse
    twin = sigma.run_layer(spec, layer.weights, layer.kept, layer.inputs)
    folds = sigma.packed(spec, layer.kept)
    cycles = [(found.compute_cycles, twin.cycles), (found.extra["folds"], len(folds))]
    cycles.append((found.extra["distribution_cycles"], sum(sigma.distribution(spec, fold, tokens) for fold in folds)))
    moved: list[tuple[float, float]] = []
    if folds:
        tile, order = 1 + tokens // 2, ("rows-outer", "tokens-outer")[tokens % 2]
        fixed = (*sets, f"mapping.tile_tokens={tile}", f"mapping.order={order}")
        walked = run(
            case.name, fixed, layer.mask, tokens, weight_bits=layer.weight_bits, group_size=layer.group_size
        ).sparse
        total, sizes, _ = sigma.slow_schedule(
            target_of(case.name, fixed).spec, layer.kept, tokens, tile, order, layer.weight_bits, layer.group_size
        )
        cycles.append((walked.cycles, total))
        moved = [(getattr(walked, name), size) for name, size in zip(BYTES, sizes, strict=True)]
    tally.add(cycles, moved, layer.right(twin.outputs, twin.uses))


def by_bitwave(tally: Tally, case: Twin, sets: tuple[str, ...], layer: Layer) -> None:
    """Computing; and the bits of a layer that is one tile, so that they are rounded to bytes once."""
    rows, cols = layer.kept.shape
    by_layer(tally, case, (*sets, *ROOMY), layer)
    whole = (*sets, *ROOMY, f"mapping.tile_rows={1200 * rows}", f"mapping.tile_cols={1600 * cols}")
    found = run(case.name, whole, layer.mask, 1, weight_bits=8, weights=layer.weights).sparse
    values, metadata = bitwave.stored_bits(target_of(case.name, whole).spec, layer.weights)
    moved = [(found.weight_bytes, -(-values // 8)), (found.metadata_bytes, -(-metadata // 8))]
    tally.bytes_compared += 1
    tally.bytes_differ += any(model != twin for model, twin in moved)
    tally.errors[-1] = max([tally.errors[-1], *(error_of(*pair) for pair in moved)], key=abs)


def by_stripes(tally: Tally, case: Twin, sets: tuple[str, ...], layer: Layer) -> None:
    """Computing at the stored bits, or the machine's."""
    spec = target_of(case.name, sets).spec
    bits = None if layer.weight_bits is None else layer.weight_bits + 1  # 5 and 9: weights of -9..9 have no room in 4
    found = run(case.name, sets, layer.mask, len(layer.inputs), weight_bits=bits, group_size=layer.group_size).sparse
    twin = stripes.run_layer_at(
        spec, layer.weights, layer.kept, layer.inputs, bits or spec.number.weight_bits, found.mapping
    )
    tally.add([(found.compute_cycles, twin.cycles)], [], layer.right(twin.outputs, twin.uses))


def _counts(found: LayerCycles, twin: Any) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    cycles = [(getattr(found, n), getattr(twin, n)) for n in ("cycles", "compute_cycles", "transfer_cycles")]
    return cycles, [(getattr(found, n), getattr(twin, n)) for n in BYTES]


SPECIAL = {"vitcod": by_vitcod, "sigma": by_sigma, "bitwave": by_bitwave, "stripes": by_stripes}
SIX_CLUSTERS = ("array.clusters=6", "array.units=4", "array.chunk=64", "array.sync_chunks=2", FREE_MEMORY, *ROOMY)


def machines_of(name: str, case: Twin) -> list[tuple[str, ...]]:
    """The small machines of the contract suite, and more where they leave something out."""
    if name.startswith("tpu"):
        return [SHRUNK]
    if name == "vitcod":
        small = (
            "buffers.weight_kib=2",
            "buffers.index_kib=0.5",
            "buffers.output_kib=0.25",
            "buffers.activation_kib=0.5",
        )
        narrow = ("buffers.weight_bytes_per_cycle=3", "buffers.activation_bytes_per_cycle=5", "buffers.ports=1")
        base = ("array.width=4", "array.height=3", "dram.bandwidth_gbps=2.5", *small)
        return [base, (*base, "engines.metadata=coordinate"), (*base, *narrow), (*base, "buffers.double=false")]
    if name == "sparten":
        more = [(*SIX_CLUSTERS, f"array.balancing={balancing}") for balancing in ("none", "gb-s", "gb-h")]
        return [*case.machines, *more]
    return list(case.machines)


def tally_of(name: str, sets: tuple[str, ...], cases: int, seed: Sequence[int]) -> Tally:
    """`cases` random layers on one machine."""
    module = importlib.import_module(f"validation.twins.{'systolic' if name.startswith('tpu') else name}")
    case: Twin = module.TWIN
    if name != case.name:
        case = replace(case, name=name)
    compare = SPECIAL.get(name) or (by_granules if case.run_tile else by_layer)
    follows = follows_two_of_four if any("nm=2:4" in setting for setting in sets) else case.follows
    rng, tally = np.random.default_rng(seed), Tally()
    for _ in range(cases):
        layer = random_layer(rng, follows, bits=True)
        try:
            compare(tally, case, sets, layer)
        except Infeasible:
            tally.unfit += 1
    return tally


def follows_two_of_four(kept: np.ndarray) -> np.ndarray:
    """The first two of every aligned four."""
    padded = np.pad(kept, ((0, 0), (0, -kept.shape[1] % 4))).reshape(len(kept), -1, 4)
    return (padded & (padded.cumsum(axis=2) <= 2)).reshape(len(kept), -1)[:, : kept.shape[1]]


WHAT = {
    "vitcod": "compute, stall and transfer cycles and all bytes, in the mapping the model chose",
    "sigma": "compute cycles, folds, distribution cycles; total cycles and bytes with a tile and an order prescribed",
    "bitwave": "compute cycles; weight and index bytes of a layer in one tile",
    "sparten": "compute cycles, of the division of the clusters that the search took; its memory is not in the twin",
    "systolic": "compute cycles (tiles, bytes, spilled sums: tests/simulator/test_systolic.py, against loops over "
    "folds)",
    "granules": "compute, total and transfer cycles and all bytes, in the mapping the model chose",
    "layer": "compute cycles; its memory is not in the twin",
}
SLOW = {"stripes": 5, "systolic": 2, "bitwave": 2}  # divides the number of cases
NAMES = (
    "vitcod", "systolic", "tpu-v4", "tpu-v5e", "stc", "sparten", "eie", "sigma", "dstc", "highlight", "vegeta",
    "bitwave",
    "stripes",
)  # fmt: skip
GRANULES = ("stc", "dstc", "highlight", "vegeta")


def compare(name: str, cases: int = 40) -> Comparison:
    """`cases` random layers on each small machine of the model."""
    module = importlib.import_module(f"validation.twins.{'systolic' if name.startswith('tpu') else name}")
    rows, errors = [], []
    for i, sets in enumerate(machines_of(name, module.TWIN)):
        tally = tally_of(name, sets, max(1, cases // SLOW.get(name, 1)), (SEED, NAMES.index(name), i))
        moved = f"{tally.bytes_differ} of {tally.bytes_compared}" if tally.bytes_compared else "-"
        rows.append((machine(sets), len(tally.errors), tally.unfit, tally.cycles_differ, moved, tally.products_wrong,
                     percent(max(tally.errors, key=abs, default=0.0))))  # fmt: skip
        errors += tally.errors
    what = WHAT.get(name) or WHAT["granules" if name in GRANULES else "layer"]
    rows_from, rows_to, cols_from, cols_to, tokens_from, tokens_to = SHAPES
    machines = (
        "of 4 x 3 arrays with the chip's buffers"
        if name.startswith("tpu")
        else "of small arrays and buffers, which cut them into tiles"
    )
    says = (
        f"Random layers of {rows_from}-{rows_to} outputs, {cols_from}-{cols_to} inputs and {tokens_from}-{tokens_to} "
        f"tokens, densities {', '.join(f'{d:g}' for d in DENSITIES)}, floats and quantized, on machines {machines}. "
        f"Compared: {what}. Products: the twin's sums against X Wᵀ in integers, and every kept weight used once a "
        "token."
    )
    head = (
        "small machine",
        "layers",
        "do not fit",
        "cycles differ",
        "bytes differ",
        "products wrong",
        "largest error",
    )
    return Comparison(
        name, "functional twin, small random layers", "own rule", tuple(errors), says, [table(head, rows)]
    )


def machine(sets: Sequence[str]) -> str:
    """What distinguishes it: the array, and a word for small buffers."""
    array = [text.split(".", 1)[1] for text in sets if text.startswith(("array.", "engines."))]
    buffers = [text.split(".", 1)[1] for text in sets if text.startswith("buffers.") and "_kib" not in text]
    return ", ".join([*array, *buffers]).replace('"', "")
