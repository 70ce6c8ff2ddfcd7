"""The slow SparTen: every compute unit's chunk pairs joined row by row; every division of the clusters."""

import numpy as np

from simulator.accelerators.sparten.cycle import SpartenSpec
from validation.twins.twin import TileRun, Twin

Unit = list[int]  # the filters (rows) of a compute unit


def groups_of(spec: SpartenSpec, kept: np.ndarray) -> list[list[Unit]]:
    """The filters that the clusters take at a time, by compute unit (in gb-h, which deals them anew in every chunk: at
    first)."""
    units, rows = spec.array.units, list(range(len(kept)))
    if spec.array.balancing == "none":
        return [[[r] for r in rows[i : i + units]] for i in range(0, len(rows), units)]
    rows.sort(key=lambda r: (-int(kept[r].sum()), r))
    slots: list[int | None] = [*rows, *[None] * (-len(rows) % (2 * units))]
    pairs: list[Unit] = []
    while slots:
        densest, sparsest = slots.pop(0), slots.pop()
        pairs.insert(0, [r for r in (densest, sparsest) if r is not None])
    return [pairs[i : i + units] for i in range(0, len(pairs), units)]


def dealt(spec: SpartenSpec, group: list[Unit], chunk: np.ndarray) -> list[Unit]:
    """The compute units' filters in a chunk, (rows, up to chunk) kept."""
    if spec.array.balancing != "gb-h":
        return group
    rows = sorted((r for unit in group for r in unit), key=lambda r: -int(chunk[r].sum()))
    slots: list[int | None] = [*rows, *[None] * (2 * len(group) - len(rows))]
    return [[r for r in (slots[i], slots[-1 - i]) if r is not None] for i in range(len(group))]


def run_layer(spec: SpartenSpec, weights: np.ndarray, kept: np.ndarray, inputs: np.ndarray, mapping: str) -> TileRun:
    """Under the division that the mapping names."""
    rows, cols = kept.shape
    outputs, uses = np.zeros((len(inputs), rows), np.int64), np.zeros((rows, cols), np.int64)
    for r in range(rows):
        for c in range(cols):
            if kept[r, c]:  # matched by the inner join
                uses[r, c] += len(inputs)
                outputs[:, r] += weights[r, c] * inputs[:, c]
    return TileRun(outputs, uses, division_cycles(spec, kept, len(inputs))[int(mapping.split()[0])])


def chunk_times(spec: SpartenSpec, kept: np.ndarray, open_inputs: np.ndarray) -> np.ndarray:
    """(groups, chunks): cycles of the slowest compute unit for one token whose nonzero inputs are `open_inputs`
    (cols,)."""
    groups, chunk = groups_of(spec, kept), spec.array.chunk
    times = np.zeros((len(groups), -(-kept.shape[1] // chunk)), np.int64)
    for g, group in enumerate(groups):
        for c in range(times.shape[1]):
            part, inputs = kept[:, c * chunk : (c + 1) * chunk], open_inputs[c * chunk : (c + 1) * chunk]
            for unit in dealt(spec, group, part):
                busy = sum(max(1, int((part[r] & inputs).sum())) for r in unit)
                times[g, c] = max(times[g, c], busy)
    return times


def division_cycles(spec: SpartenSpec, kept: np.ndarray, tokens: int) -> dict[int, int]:
    """Clusters over groups of filters -> compute cycles of the layer, for every division of the clusters. Dense
    inputs."""
    array = spec.array
    times = chunk_times(spec, kept, np.ones(kept.shape[1], bool))
    n_groups, n_chunks = times.shape
    result = {}
    for over_groups in range(1, array.clusters + 1):
        if array.clusters % over_groups:
            continue
        cycles = 0
        for _ in range(0, tokens, array.clusters // over_groups):  # a token a cluster, those of a group side by side
            for g in range(0, n_groups, over_groups):
                for c in range(0, n_chunks, array.sync_chunks):
                    cycles += max(sum(row[c : c + array.sync_chunks]) for row in times[g : g + over_groups])
        result[over_groups] = int(cycles)
    return result


def dense_compute(spec: SpartenSpec, rows: int, cols: int, tokens: int, mapping: str) -> int:
    """Of one cluster: a cycle for every input and every filter of the fullest unit of a group; pairs are formed only
    where there are more filters than units."""
    assert spec.array.clusters == 1
    units = spec.array.units
    if spec.array.balancing == "none":
        return tokens * cols * -(-rows // units)
    size = 2 * units
    groups, alone = -(-rows // size), -rows % size  # `alone` units have one filter, those of the last groups
    single = max(alone // units, int(rows <= units))
    return tokens * cols * (2 * groups - min(single, groups))


ROOM = ("buffers.weight_kib=64", "buffers.index_kib=64", "buffers.activation_kib=4", "buffers.output_kib=4")
SMALL = (
    "array.clusters=1",
    "array.units=4",
    *ROOM,
)  # how clusters are divided depends on memory too: see test_sparten.py
TWIN = Twin(
    name="sparten",
    machines=(
        ("array.chunk=64", "array.sync_chunks=1", "array.balancing=none", *SMALL),
        ("array.chunk=64", "array.sync_chunks=2", "array.balancing=gb-s", *SMALL),
        ("array.chunk=128", "array.sync_chunks=1", "array.balancing=gb-h", *SMALL),
    ),
    full_mask_cycles=dense_compute,
    lane_rows=lambda spec: spec.array.units if spec.array.balancing == "none" else 0,
    not_promised={
        "more zeros": "with balancing, fewer weights can change the order of filters, and so the groups",
    },
    run_layer=run_layer,
    arranged=True,
)
