"""The kernels over all tile shapes against one tile at a time, cut from the mask itself."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.accelerators.named import open_accelerator
from simulator.accelerators.sparten.kernels import densest_first
from simulator.accelerators.vitcod import cycle as vitcod
from simulator.accelerators.vitcod.shapes import Storage, shapes_of
from simulator.statistics import Statistics
from simulator.tiling.granules import Granules
from simulator.work import Work
from workloads import PackedMask, UserError


def bytes_of(bits: int) -> int:
    return math.ceil(bits / 8)


def facts_of(
    kept: np.ndarray, dense: np.ndarray, tile: tuple[int, int], dense_lanes: int, storage: Storage
) -> list[int]:
    """A row of `tiles.shape_facts`: kept and dense are bool, (rows, cols) and (cols,)."""
    (rows, cols), (tile_rows, tile_cols) = kept.shape, tile
    tiles, reads, sums = [], 0, 0
    for top in range(0, rows, tile_rows):
        for left in range(0, cols, tile_cols):
            piece, full = kept[top : top + tile_rows, left : left + tile_cols], dense[left : left + tile_cols]
            height, width = piece.shape
            sparse = int(piece[:, ~full].sum())
            metadata = 0
            if not full.all():
                index = max(1, (tile_cols - 1).bit_length())
                coordinates = sparse * index + height * (index + 1)
                metadata = coordinates if storage.metadata == "coordinate" else height * int((~full).sum())
                metadata += width if full.any() else 0
            starts = range(0, cols, storage.group_size or cols)  # of the groups of a row
            scales = height * sum(left <= start < left + width for start in starts) * storage.scale_bits
            weights = (sparse + height * int(full.sum())) * storage.weight_bits
            tiles.append([bytes_of(weights), bytes_of(metadata), bytes_of(scales)])
            reads += sparse + (math.ceil(height / dense_lanes) * int(full.sum()) if full.any() else 0)
            sums += height * (int(full.any()) + int(not full.all()))
    held = [weights + scales for weights, _, scales in tiles]
    counted = [math.ceil(rows / tile_rows), math.ceil(cols / tile_cols)]
    sides = [min(tile_rows, rows), min(tile_cols, cols), *counted, rows - (counted[0] - 1) * tile_rows]
    return [
        *sides,
        reads,
        sums,
        max(held),
        max(m for _, m, _ in tiles),
        *map(sum, zip(*tiles, strict=True)),
        sum(tiles[0]),
    ]


def cycles_of(
    kept: np.ndarray, dense: np.ndarray, tile: tuple[int, int], lanes: tuple[int, int], macs: int
) -> list[int]:
    """Of every tile, lane by lane; `lanes` of the sparser and the denser engine."""
    (rows, cols), (tile_rows, tile_cols), (sparse_lanes, dense_lanes) = kept.shape, tile, lanes
    cycles = []
    for top in range(0, rows, tile_rows):
        for left in range(0, cols, tile_cols):
            piece, full = kept[top : top + tile_rows, left : left + tile_cols], dense[left : left + tile_cols]
            steps = [math.ceil(int(row[~full].sum()) / macs) for row in piece]
            sparser = max((sum(steps[lane::sparse_lanes]) for lane in range(sparse_lanes)), default=0)
            denser = math.ceil(len(piece) / dense_lanes) * math.ceil(int(full.sum()) / macs) if dense_lanes else 0
            cycles.append(max(sparser, denser))
    return cycles


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 300), st.floats(0, 1), st.integers(1, 9),
    st.integers(1, 70), st.sampled_from(["bitmap", "coordinate"]), st.sampled_from([None, 16, 48, 64, 100]),
)  # fmt: skip
def test_every_shape_is_the_sum_of_its_tiles(seed, rows, cols, density, width, height, metadata, group_size):
    rng = np.random.default_rng(seed)
    kept = rng.random((rows, cols)) < np.clip(density * rng.uniform(0, 2, cols), 0, 1)
    spec = open_accelerator(
        "vitcod", [f"array.width={width}", f"array.height={height}", f"engines.metadata={metadata}"]
    ).spec
    work = Work(rows, cols, int(kept.sum()), 1, 5, group_size)
    storage = Storage.of(spec, work)
    statistics = Statistics(vitcod.Vitcod.of(spec).gather(PackedMask.from_dense(kept), dict))
    for shapes in shapes_of(spec, statistics, work):
        dense = np.zeros(cols, dtype=bool)
        dense[np.argsort(-kept.sum(axis=0), kind="stable")[: shapes.n_dense]] = True  # thresholds take the densest
        facts, dense_lanes = shapes.facts(storage), shapes.split.dense_lanes
        totals = shapes.totals(height, np.ones(len(shapes), dtype=bool))
        for i in range(len(shapes)):
            tile = shapes[i].tile_rows, 64 * shapes[i].tile_words
            assert facts[i].tolist() == facts_of(kept, dense, tile, dense_lanes, storage)
            assert facts[i, -4:-1].tolist() == shapes[i].parts(storage).sum(axis=(1, 2)).tolist()
            cycles = cycles_of(kept, dense, tile, (width - dense_lanes, dense_lanes), height)
            assert shapes.cycles(height, i).ravel().tolist() == cycles
            assert totals[i] == sum(cycles)


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_rows_by_density_keep_their_order_where_equal(kept):
    assert densest_first(np.array(kept)).tolist() == sorted(range(len(kept)), key=lambda row: (-kept[row], row))


@pytest.mark.parametrize("wrong", [-1, np.nan])
def test_granules_of_negative_or_no_cycles_are_refused(wrong):
    ones = np.ones((1, 1))
    with pytest.raises(UserError, match="hold step_cycles of"):
        Granules(np.array([1]), np.array([64]), ones, ones, ones * wrong, ones)
