import math

import pandas as pd
import pytest

from reports.sections.quality import quality_text, quality_verdict
from reports.tables.quality import off_target, perplexity_table, quality_csv, quality_tables
from tests.reports.samples import dense, measured, quality_frame
from workloads.errors import UserError

SEEDS = [measured("wanda", 0.5, 20.0 + s, s) for s in (1, 2, 3)]


def only_table(*rows: dict) -> tuple[dict, pd.DataFrame]:
    ((key, table),) = quality_tables(perplexity_table(quality_frame(*rows)))
    return key, table


def test_a_cell_is_mean_and_sample_deviation_over_its_seeds():
    line = perplexity_table(quality_frame(*SEEDS)).iloc[0]
    assert (line.perplexity, line.perplexity_spread, line.seeds) == (22, pytest.approx(1), 3)
    assert (line.perplexity_low, line.perplexity_high, line.target_name) == (21, 23, "50 %")


def test_a_line_a_method_and_a_column_a_target_in_the_order_of_targets():
    rows = [measured("a", "4:8", 5.0), measured("a", 0.7, 4.0), *SEEDS, measured("a", "2:4", 6.0), dense(10.0)]
    key, table = only_table(*rows, measured("q", 0.0, 11.0, weight_bits=4))
    assert list(table["method"]) == ["a", "wanda", "dense", "q"]
    assert [name for name in table if name.endswith("@target_perplexity")] == [
        f"{target}@target_perplexity" for target in ("not pruned", "50 %", "70 %", "2:4", "4:8")
    ]
    assert list(table["50 %@target_perplexity"].dropna()) == [22]
    assert list(table["not pruned@target_perplexity"].dropna()) == [10, 11]
    assert list(table["seed_range"]) == ["1", "3", "", "1"]
    assert quality_text(key) == "tiny: perplexity (lower is better) on a.txt, 3 windows of 8 tokens; dense 10.00"


def test_lines_with_fewer_seeds_somewhere_say_so():
    _, table = only_table(*SEEDS, measured("wanda", "2:4", 30.0))
    assert list(table["seed_range"]) == ["1 to 3"]
    assert math.isnan(table["2:4@target_perplexity_spread"].item())


def test_a_diverged_run_stays_as_it_is():
    _, table = only_table(measured("a", 0.7, 1e304, 0), measured("a", 0.7, 10.0, 1))
    assert table["70 %@target_perplexity"].item() == pytest.approx(0.5e304)
    assert table["70 %@target_perplexity_spread"].item() == pytest.approx(1e304 / math.sqrt(2))


def test_weights_of_other_bits_are_another_line():
    _, table = only_table(measured("a", 0.5, 20.0), measured("a", 0.5, 21.0, weight_bits=4))
    assert list(table["50 %@target_perplexity"]) == [20, 21]


def test_two_perplexities_of_one_seed_are_refused():
    with pytest.raises(UserError, match="2 perplexities for wanda unstructured with one seed"):
        perplexity_table(quality_frame(measured("wanda", 0.5, 20.0, 1), measured("wanda", 0.5, 21.0, 1)))


def test_what_was_evaluated_otherwise_stands_in_a_table_of_its_own():
    rows = quality_frame(
        dense(10.0), *SEEDS, measured("wanda", 0.5, 9.0, text="b.txt"), measured("wanda", 0.5, 8.0, seq_len=9)
    )
    tables = list(quality_tables(perplexity_table(rows)))
    assert [key["text"] for key, _ in tables] == ["a.txt", "b.txt", "a.txt"]
    assert tables[0][0]["dense_perplexity"] == 10
    assert all(math.isnan(key["dense_perplexity"]) for key, _ in tables[1:])


def test_no_perplexities_make_no_tables():
    assert perplexity_table(None).empty
    assert list(quality_tables(perplexity_table(quality_frame()))) == []


def test_a_missing_perplexity_makes_the_mean_missing_not_smaller():
    line = perplexity_table(quality_frame(measured("a", 0.5, 20.0, 0), measured("a", 0.5, None, 1))).iloc[0]
    assert math.isnan(line.perplexity)


def test_masks_that_miss_their_target_are_named():
    table = perplexity_table(
        quality_frame(measured("a", 0.5, 20.0, sparsity=0.492), measured("b", 0.5, 21.0, sparsity=0.50001))
    )
    assert list(off_target(table)["method"]) == ["a"]
    assert "tiny: a at 50 % reached a sparsity of 49.2 %." in quality_verdict(table)


def test_the_lowest_perplexity_of_every_target_is_named():
    rows = [measured("a", 0.5, 20.0), measured("b", 0.5, 19.0), measured("a", "2:4", 30.0), measured("b", "2:4", 1e9)]
    table = perplexity_table(quality_frame(*rows, measured("a", 0.7, 50.0), dense(10.0)))
    assert quality_verdict(table) == ["tiny: lowest perplexity at 50 % b 19.00, at 2:4 a 30.00."]


def test_the_csv_has_numbers_and_says_what_was_evaluated():
    made = quality_csv(list(quality_tables(perplexity_table(quality_frame(dense(10.0), *SEEDS)))))
    line = made.set_index("method").loc["wanda"]
    assert (line["50 %"], line["50 % spread"], line["seeds"], line["dense_perplexity"]) == (
        22,
        pytest.approx(1),
        "3",
        10,
    )
    assert (line["model"], line["text"], line["windows"], line["seq_len"]) == ("tiny", "a.txt", 3, 8)
