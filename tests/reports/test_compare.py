import math

import pandas as pd
import pytest

from reports.sections.compared import apart_text, compared_text
from reports.tables.compare import compare_columns, compare_csv, compare_tables, perplexity_line
from reports.tables.quality import perplexity_table
from tests.reports.samples import barred, dense, frame, measured, quality_frame, row, two_layers

NONE = perplexity_table(None)


def compared(rows: list[dict], perplexities=NONE) -> list:
    return list(compare_tables(frame(rows), perplexities))


def test_methods_stand_side_by_side_with_the_dense_cycles_they_share():
    rows = [
        *two_layers(method="a"),
        row(100, 80, method="b"),
        row(300, 100, method="b", layer="layers.0.up", role="up", nnz=10),
    ]
    ((key, table),) = compared(rows)
    table = table.set_index("role")
    assert list(table.index) == ["q", "up", "all"]
    assert table["dense@mean_cycles"].tolist() == [100, 300, 200]
    assert table["a@mean_cycles"].tolist() == [50, 300, 175]
    assert table["b@mean_cycles"].tolist() == [80, 100, 90]
    assert table["a@speedup"]["all"] == pytest.approx(400 / 350)
    assert table["b@speedup"]["all"] == pytest.approx(400 / 180)
    assert table["b@sparsity"].tolist() == pytest.approx([0.5, 0.75, 0.625])
    assert compared_text(key) == "tiny, vitcod (cycle level), 1 token, 2:4: mean cycles per layer"


def test_only_what_has_the_same_target_and_place_is_compared():
    different = {"pattern": "unstructured", "target_sparsity": 0.5}
    assert compared(two_layers(method="a")) == []
    assert compared([*two_layers(method="a"), *two_layers(method="b", **different)]) == []
    rows = [r for m in "ab" for t in (1, 512) for r in two_layers(method=m, tokens=t)]
    assert [key["tokens"] for key, _ in compared(rows)] == [1, 512]


def test_layers_that_one_method_cannot_run_are_left_out_for_all():
    down = {"layer": "layers.0.down", "role": "down"}
    rows = [*two_layers(method="a"), row(50, 10, method="a", **down), *two_layers(method="b"), barred(method="b")]
    ((key, table),) = compared(rows)
    assert list(table["role"]) == ["q", "up", "all"]
    assert table["a@mean_cycles"].tolist() == table["b@mean_cycles"].tolist() == [50, 300, 175]
    assert "1 layers that not every method can run here are left out" in compared_text(key)
    assert compared([barred(method="a"), barred(method="b")]) == []


def test_more_methods_than_fit_fill_several_tables():
    tables = [table for _, table in compared([r for m in "abcde" for r in two_layers(method=m)])]
    shown = [[name.removesuffix("@speedup") for name in table if name.endswith("@speedup")] for table in tables]
    assert shown == [["a", "b", "c"], ["d", "e"]]


def test_perplexities_stand_below_their_methods():
    known = quality_frame(
        dense(10.0), measured("a", "2:4", 20.0, 0), measured("a", "2:4", 22.0, 1), measured("b", "2:4", 30.0)
    )
    rows = [{**r, "target_sparsity": 0.5} for m in "ab" for r in two_layers(method=m)]
    ((_, table),) = compared(rows, perplexity_table(known))
    columns = compare_columns(table)
    assert columns == [
        "role", "shapes", "dense@mean_cycles", "a@mean_cycles", "a@sparsity", "a@speedup", "b@mean_cycles",
        "b@sparsity",
        "b@speedup",
    ]  # fmt: skip
    assert perplexity_line(table, columns) == [
        ("perplexity", 1), ("", 1), ("10.00", 1), ("21.00 ± 1.41", 3), ("30.00", 3),
    ]  # fmt: skip
    ((_, bare),) = compared(rows)
    assert perplexity_line(bare, compare_columns(bare)) == []


def test_published_baselines_are_shown_where_there_are_any():
    paper = {"target": "vitcod-paper", "level": "paper", "published_dense_cycles": 120}
    ((_, table),) = compared([row(100, 50, method=m, **paper) for m in "ab"])
    assert table["a@published_speedup"].tolist() == [2.4, 2.4]
    assert {"dense@mean_published_dense_cycles", "b@published_speedup"} <= set(compare_columns(table))


def test_means_over_seeds_with_their_spread():
    rows = [row(100, c, method=m, seed=s) for m in "ab" for s, c in ((0, 50), (1, 100))]
    ((_, table),) = compared(rows)
    assert table["a@mean_cycles"].tolist() == [75, 75]
    assert table["a@speedup_spread"].tolist() == pytest.approx([1 / math.sqrt(2)] * 2)


def test_the_csv_has_every_table_and_what_its_methods_share():
    tables = compared([r for m in "ab" for t in (1, 512) for r in two_layers(method=m, tokens=t)])
    made = compare_csv(tables)
    assert made[["tokens", "role"]].values.tolist() == [[t, r] for t in (1, 512) for r in ("q", "up", "all")]
    assert {"target", "level", "pattern", "target_sparsity", "a@speedup", "dense@mean_cycles"} <= set(made.columns)


def test_sparsities_that_differ_are_told_beside_a_comparison() -> None:
    def table(*sparsities: float) -> pd.DataFrame:
        return pd.DataFrame([{f"m{n}@sparsity": value for n, value in enumerate(sparsities)}])

    assert apart_text(table(0.5, 0.5005, float("nan"))) == ""
    assert apart_text(table(0.5, 0.4993)) == "; sparsities differ: m0 50.00 %, m1 49.93 %"
