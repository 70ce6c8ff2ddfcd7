"""Masks that differ in their seed alone: means, spreads, and what they must not change."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.sections.whole_model import coverage
from reports.tables.layers import headline_table, infeasible_table, layer_table, levels_table, role_table
from reports.tables.sums import spread
from tests.reports.samples import barred, dense, frame, measured, quality_frame, row, two_layers


def test_cycles_are_means_over_seeds_and_speedup_is_the_ratio_of_the_means():
    line = headline_table(frame([row(100, 50, seed=1), row(100, 100, seed=2)])).iloc[0]
    assert (line.dense_cycles, line.cycles, line.layers, line.seeds) == (100, 75, 1, 2)
    assert line.speedup == pytest.approx(200 / 150)
    # Two values a and b: |a - b| / sqrt(2).
    assert line.cycles_spread == pytest.approx(50 / math.sqrt(2))
    assert line.speedup_spread == pytest.approx((2 - 1) / math.sqrt(2))


def test_one_seed_has_no_spread():
    line = headline_table(frame(two_layers())).iloc[0]
    assert line.seeds == 1
    assert math.isnan(line.cycles_spread)
    assert math.isnan(line.speedup_spread)


def test_role_lines_are_means_per_layer_and_seed():
    rows = [row(100, 40, seed=1), row(100, 60, layer="layers.1.q", block=1, seed=1)]
    rows += [row(100, 50, seed=2), row(100, 90, layer="layers.1.q", block=1, seed=2)]
    line = role_table(frame(rows)).set_index("role").loc["q"]
    assert (line.mean_cycles, line.mean_dense_cycles, line.layers) == ((40 + 60 + 50 + 90) / 4, 100, 2)
    # Per seed 50 and 70 cycles a layer.
    assert line.mean_cycles_spread == pytest.approx(20 / math.sqrt(2))


def test_a_layer_that_cannot_run_with_one_seed_is_left_out_with_all():
    down = {"layer": "layers.0.down", "role": "down"}
    rows = frame([*two_layers(seed=1), row(10, 5, seed=1, **down), *two_layers(seed=2), barred(seed=2)])
    line = headline_table(rows).iloc[0]
    assert (line.layers, line.infeasible_layers, line.dense_cycles, line.cycles) == (2, 1, 400, 350)
    assert infeasible_table(rows)[["reason", "infeasible_layers"]].values.tolist() == [["no room", 1]]
    assert coverage(rows) == (
        "1 of 6 result rows cannot run on their target and are in no sum. 1 rows of the same layers with other seeds "
        "are left out with them."
    )


def test_equal_masks_of_several_seeds_are_not_paired_across_seeds():
    paper = {"target": "vitcod-paper", "level": "paper"}
    rows = [row(100, 50, seed=s, **paper) for s in (1, 2, 3)] + [row(400, 200, seed=s) for s in (1, 2, 3)]
    line = levels_table(frame(rows)).iloc[0]
    assert (line.layers, line.paper_cycles, line.cycle_cycles, line.paper_speedup) == (1, 50, 200, 2)


def test_every_seed_keeps_its_lines_in_the_table_of_layers():
    table = layer_table(frame([row(100, 50, seed=2), row(100, 60, seed=1)]))
    assert table[["seed", "cycles"]].values.tolist() == [[1, 60], [2, 50]]


def test_perplexity_beside_speedup_is_the_mean_over_its_seeds():
    known = quality_frame(dense(10.0), measured("wanda", "2:4", 20.0, 1), measured("wanda", "2:4", 22.0, 2))
    rows = [{**r, "target_sparsity": 0.5} for seed in (1, 2) for r in two_layers(seed=seed)]
    line = headline_table(frame(rows), known).iloc[0]
    assert (line.perplexity, line.dense_perplexity) == (21, 10)
    assert line.perplexity_spread == pytest.approx(math.sqrt(2))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)), min_size=1, max_size=4),
    st.integers(2, 5),
)
def test_seeds_that_give_the_same_change_nothing(layers, seeds):
    def rows(seed: int) -> list[dict]:
        return [row(d, c, layer=f"l{n}", seed=seed) for n, (d, c) in enumerate(layers)]

    one = headline_table(frame(rows(0))).iloc[0]
    many = headline_table(frame([r for seed in range(seeds) for r in rows(seed)])).iloc[0]
    for name in ("layers", "dense_cycles", "cycles", "speedup", "sparsity", "compute_speedup"):
        assert many[name] == pytest.approx(one[name])
    assert (many.seeds, many.cycles_spread, many.speedup_spread) == (seeds, 0, 0)


@settings(deadline=None)
@given(st.lists(st.floats(0.1, 1e6), min_size=2, max_size=6), st.floats(1e-3, 1e3), st.randoms())
def test_a_spread_scales_with_its_values_and_knows_no_order(values, factor, random):
    known = spread(values)
    assert known >= 0
    assert spread(value * factor for value in values) == pytest.approx(known * factor, rel=1e-6, abs=1e-9)
    random.shuffle(values)
    assert spread(values) == pytest.approx(known, rel=1e-6, abs=1e-9)


def test_spreads_in_closed_form():
    assert spread([1.0, 2.0, 3.0]) == 1
    assert spread([0.0, 1e304, 2e304]) == pytest.approx(1e304)
    assert spread([5.0, 5.0]) == 0
    assert all(math.isnan(spread(values)) for values in ([], [1.0], [1.0, math.nan], [1.0, math.inf]))
