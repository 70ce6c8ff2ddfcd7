import math

import pandas as pd
import pytest

from reports.tables.layers import (
    headline_table,
    infeasible_table,
    layer_table,
    levels_table,
    role_table,
)
from tests.reports.samples import barred, frame, quality, row, two_layers
from workloads.errors import UserError


def test_speedup_of_a_model_is_sum_over_sum_not_the_mean_of_speedups():
    line = headline_table(frame(two_layers())).iloc[0]
    assert line.dense_cycles == 400
    assert line.cycles == 350
    assert line.speedup == pytest.approx(400 / 350)
    # compute: dense 100 + 200, sparse 50 + 200
    assert line.compute_speedup == pytest.approx(300 / 250)
    assert line.stall_share == pytest.approx(100 / 350)


def test_bound_shares_weigh_layers_by_their_cycles():
    line = headline_table(frame(two_layers())).iloc[0]
    assert line.bound_compute_share == pytest.approx(50 / 350)
    assert line.bound_memory_share == pytest.approx(300 / 350)
    assert line.bound_imbalance_share == 0
    assert (line.slowest_role, line.slowest_role_share) == ("up", pytest.approx(300 / 350))


def test_waiting_for_buffers_is_told_apart():
    rows = [row(100, 50), row(300, 150, stall=100, layer="u", role="up", bound="buffer", buffer_stall_cycles=60)]
    rows[0]["buffer_stall_cycles"] = 0
    line = headline_table(frame(rows)).iloc[0]
    assert line.bound_buffer_share == pytest.approx(150 / 200)
    assert line.bound_memory_share == 0
    assert (line.stall_share, line.buffer_stall_share) == (pytest.approx(100 / 200), pytest.approx(60 / 200))


def test_other_settings_and_other_activations_are_other_configurations():
    rows = [r for s in ("", "array.rows=8") for d in (1.0, 0.5) for r in two_layers(settings=s, activation_density=d)]
    table = headline_table(frame(rows))
    assert table[["settings", "activation_density"]].values.tolist() == [
        ["", 1.0], ["", 0.5], ["array.rows=8", 1.0], ["array.rows=8", 0.5],
    ]  # fmt: skip
    assert table["cycles"].tolist() == [350] * 4
    roles = role_table(frame(rows))
    assert roles.loc[roles["role"] == "all", "time_share"].tolist() == [1.0] * 4
    assert len(layer_table(frame(rows))) == 8


def test_sparsity_is_weighted_by_weights():
    small = row(10, 10, out_features=1, in_features=10, nnz=10, sparsity=0.0)
    big = row(10, 10, layer="b", out_features=9, in_features=10, nnz=0, sparsity=1.0)
    assert headline_table(frame([small, big])).sparsity.item() == pytest.approx(0.9)


def test_infeasible_layers_are_counted_and_leave_both_sums():
    line = headline_table(frame([*two_layers(), barred(dense_cycles=1000)])).iloc[0]
    assert (line.layers, line.infeasible_layers) == (2, 1)
    assert (line.dense_cycles, line.cycles) == (400, 350)


def test_a_target_that_runs_nothing_has_no_numbers_rather_than_zeros():
    line = headline_table(frame([barred()])).iloc[0]
    assert (line.layers, line.infeasible_layers) == (0, 1)
    assert all(math.isnan(line[name]) for name in ("cycles", "speedup", "sparsity", "bound_memory_share"))
    assert infeasible_table(frame([barred(), *two_layers()]))[["reason", "infeasible_layers"]].values.tolist() == [
        ["no room", 1]
    ]


def test_feasible_rows_without_cycles_are_left_out_openly():
    hollow = {**row(100, 50, layer="x"), "cycles": None}
    line = headline_table(frame([*two_layers(), hollow])).iloc[0]
    assert (line.layers, line.infeasible_layers, line.cycles) == (2, 1, 350)
    assert "missing" in infeasible_table(frame([hollow])).reason.item()


def test_a_missing_part_makes_the_sum_missing_not_smaller():
    rows = frame(two_layers())
    rows.loc[0, "dense_compute_cycles"] = pd.NA
    line = headline_table(rows).iloc[0]
    assert math.isnan(line.compute_speedup)
    assert line.speedup == pytest.approx(400 / 350)


def test_one_line_per_model_target_tokens_method_and_pattern_tokens_rising():
    rows = [*two_layers(tokens=512), *two_layers(tokens=1), *two_layers(method="magnitude"), *two_layers(target="b")]
    table = headline_table(frame(rows))
    assert table[["target", "tokens", "method"]].values.tolist() == [
        ["vitcod", 1, "wanda"], ["vitcod", 1, "magnitude"], ["vitcod", 512, "wanda"], ["b", 1, "wanda"],
    ]  # fmt: skip


def test_perplexity_stands_beside_its_own_model_method_and_pattern():
    known = quality(("dense", "", 10.0), ("wanda", "2:4", 20.0), ("wanda", "unstructured", 15.0))
    line = headline_table(frame(two_layers()), known).iloc[0]
    assert (line.perplexity, line.dense_perplexity) == (20.0, 10.0)
    other = headline_table(frame(two_layers(model="another")), known).iloc[0]
    assert math.isnan(other.perplexity)
    assert math.isnan(other.dense_perplexity)


def test_perplexities_of_different_texts_are_never_paired():
    known = pd.concat([quality(("wanda", "2:4", 20.0)), quality(("dense", "", 10.0), text="b.txt", text_sha256="t1")])
    line = headline_table(frame(two_layers()), known).iloc[0]
    assert (line.perplexity, line.evaluation_text) == (20.0, "a.txt")
    assert math.isnan(line.dense_perplexity)


def test_two_perplexities_for_one_mask_are_refused():
    with pytest.raises(UserError, match="2 perplexities"):
        headline_table(frame(two_layers()), quality(("wanda", "2:4", 20.0), ("wanda", "2:4", 21.0)))


def test_role_lines_are_means_per_layer_and_their_speedup_is_sum_over_sum():
    rows = [row(100, 50), row(300, 350, layer="layers.1.q", block=1), row(10, 10, layer="layers.0.up", role="up")]
    table = role_table(frame(rows)).set_index("role")
    assert list(table.index) == ["q", "up", "all"]
    assert (table.mean_dense_cycles["q"], table.mean_cycles["q"], table.layers["q"]) == (200, 200, 2)
    assert table.speedup["q"] == 1.0
    assert table.speedup["all"] == pytest.approx(410 / 410)
    assert table.mean_cycles["all"] == pytest.approx(410 / 3)
    assert table.time_share["q"] == pytest.approx(400 / 410)
    assert table.shapes["q"] == "4 x 10"


def test_role_table_shows_the_published_baseline_where_there_is_one():
    paper = {"target": "vitcod-paper", "level": "paper", "published_dense_cycles": 120, "published_speedup": 2.4}
    table = role_table(frame([row(100, 50, **paper), *two_layers()])).set_index(["target", "role"])
    assert table.published_speedup["vitcod-paper", "q"] == pytest.approx(120 / 50)
    assert math.isnan(table.published_speedup["vitcod", "q"])


def test_levels_pair_the_same_mask_and_tokens_only():
    paper = {"target": "vitcod-paper", "level": "paper"}
    rows = [
        row(100, 50, published_dense_cycles=120, **paper),
        row(400, 500, stall=400),
        row(400, 200, tokens=512),
        row(90, 30, layer="layers.0.up", role="up", mask_sha256="m1", **paper),
        row(90, 90, layer="layers.0.up", role="up", mask_sha256="another mask"),
    ]
    table = levels_table(frame(rows))
    assert list(table.role) == ["q", "all"]
    line = table.iloc[0]
    assert (line.paper_speedup, line.cycle_speedup, line.published_speedup) == (2.0, 0.8, 2.4)
    assert (line.cycle_stall_share, line.tokens, line.layers) == (0.8, 1, 1)


def test_the_formula_of_one_design_is_not_held_against_another_design():
    rows = [row(100, 50, target="vitcod-paper", level="paper"), row(400, 500), row(400, 300, target="stc")]
    assert levels_table(frame(rows))["target_cycle"].tolist() == ["vitcod", "vitcod"]


def test_levels_are_paired_for_each_setting():
    rows = [row(100, 50, target="vitcod-paper", level="paper")]
    rows += [row(400, c, settings=s) for s, c in (("", 200), ("array.width=8", 400))]
    table = levels_table(frame(rows))
    assert table[["settings_cycle", "role", "cycle_speedup"]].values.tolist() == [
        ["", "q", 2.0], ["", "all", 2.0], ["array.width=8", "q", 1.0], ["array.width=8", "all", 1.0],
    ]  # fmt: skip


def test_levels_table_is_empty_with_one_level():
    assert levels_table(frame(two_layers())).empty


def test_layer_table_keeps_infeasible_layers_with_their_reason():
    table = layer_table(frame([*two_layers(), barred()]))
    assert list(table.reason) == ["", "", "no room"]


def test_layers_are_sorted_by_block_then_role():
    rows = [row(1, 1, layer=f"{b}{r}", block=b, role=r) for b in (10, 2) for r in ("down", "q", "strange")]
    assert list(layer_table(frame(rows)).layer) == ["2q", "2down", "2strange", "10q", "10down", "10strange"]


def test_empty_rows_are_refused():
    with pytest.raises(UserError, match="no result rows"):
        headline_table(frame([]))


def test_the_same_layer_twice_with_one_seed_is_refused():
    with pytest.raises(UserError, match=r"'layers\.0\.q' has more than one row"):
        headline_table(frame([row(100, 50, seed=1), row(100, 60, seed=1)]))


def test_incomplete_rows_are_refused_by_name():
    with pytest.raises(UserError, match="'nnz'"):
        headline_table(frame(two_layers()).drop(columns="nnz"))
