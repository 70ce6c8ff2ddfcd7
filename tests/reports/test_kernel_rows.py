"""Rows with latencies and no cycles: sums by hand, in one table with accelerators, never mixed up."""

import io
import math

import pandas as pd
import pytest
from rich.console import Console

from reports import headline_table, print_report, write_report
from reports.contents import gather
from reports.sections.gains import gains
from reports.sections.provenance import facts
from reports.sections.sources import sources
from reports.sections.whole_model import typed_table, what_cannot_run
from reports.tables.compare import compare_columns, compare_tables
from reports.tables.designs import split
from reports.tables.layers import infeasible_table, layer_table, role_table
from reports.tables.quality import perplexity_table
from reports.tables.sums import checked
from reports.words.units import with_time_unit
from tests.reports.samples import frame, kernel, page_data, published, row, timed, two_layers
from workloads.errors import UserError

UP = {"layer": "layers.0.up", "role": "up"}


def test_speedup_is_the_sum_of_dense_times_over_the_sum_of_times():
    line = headline_table(frame([kernel(30, 20), kernel(90, 100, bound="dram", latency_error_p90=0.3, **UP)])).iloc[0]
    assert (line.dense_latency_us, line.latency_us) == (120, 120)
    assert line.speedup == 1.0  # not the mean of 1.5 and 0.9
    assert math.isnan(line.cycles)
    assert math.isnan(line.dense_cycles)
    assert line.latency_error_p90 == 0.3
    assert (line.layers, line.infeasible_layers, line["dtype"]) == (2, 0, "fp16")
    assert (line.bound_tensor_share, line.bound_dram_share) == (pytest.approx(20 / 120), pytest.approx(100 / 120))
    assert (line.bound_l2_share, line.bound_launch_share, line.bound_wave_tail_share) == (0, 0, 0)
    assert math.isnan(line.bound_memory_share)
    assert (line.slowest_role, line.slowest_role_share) == ("up", pytest.approx(100 / 120))


def test_an_accelerator_and_a_gpu_stand_in_one_table_with_their_latencies():
    table = headline_table(frame([*two_layers(), kernel(30, 20)])).set_index("target")
    assert table.latency_us["vitcod"] == pytest.approx(350 / 500)  # cycles / MHz
    assert table.dense_latency_us["vitcod"] == pytest.approx(400 / 500)
    assert table.speedup["vitcod"] == pytest.approx(400 / 350)
    assert table.latency_us["a100-pcie"] == 20
    assert math.isnan(table.bound_tensor_share["vitcod"])
    assert math.isnan(table.bound_compute_share["a100-pcie"])
    assert table.latency_error_p90.isna()["vitcod"]


def test_what_is_not_known_is_left_out_and_said():
    rows = [kernel(30, 20), kernel(None, 50, **UP)]
    line = headline_table(frame(rows)).iloc[0]
    assert (line.layers, line.infeasible_layers, line.latency_us) == (1, 1, 20)
    assert "its time, or that of the unpruned layer, is missing" in infeasible_table(frame(rows)).reason.item()


def test_a_kernel_that_was_asked_for_keeps_rows_apart_and_a_predicted_one_does_not():
    rows = [timed("cusparselt24", 50), timed("cutlass24", 60), timed("dense", 100)]
    assert headline_table(frame(rows)).latency_us.tolist() == [50, 60, 100]
    # The same where the settings do not name the kernel.
    bare = [timed(name, us, settings="dtype=fp16") for name, us in (("a", 50), ("b", 60))]
    table = headline_table(frame(bare))
    assert table.settings.tolist() == ["kernel=a dtype=fp16", "kernel=b dtype=fp16"]
    fallback = headline_table(frame([kernel(30, 20), kernel(90, 90, kernel="dense", **UP)]))
    assert fallback.latency_us.tolist() == [110]
    other_types = [kernel(30, 20), kernel(30, 20, settings="dtype=int8", **UP)]
    assert headline_table(frame(other_types)).latency_us.tolist() == [20, 20]
    with pytest.raises(UserError, match="more than one row"):
        headline_table(frame([kernel(30, 20), kernel(30, 21)]))


def test_many_kernels_are_no_sweep_of_designs():
    rows = [timed(str(n), 10 + n) for n in range(6)]
    plain, swept = split(checked(frame(rows)))
    assert (len(plain), len(swept)) == (6, 0)


def test_roles_are_means_of_their_layers_with_kernels_and_bounds():
    rows = [
        kernel(40, 20, bound="launch"),
        kernel(60, 40, layer="layers.1.q", block=1, kernel="dense", bound="dram"),
        kernel(100, 60, **UP),
    ]
    table = role_table(frame(rows)).set_index("role")
    assert (table.mean_dense_latency_us["q"], table.mean_latency_us["q"]) == (50, 30)
    assert (table.mean_latency_us["all"], table.speedup["all"]) == (40, pytest.approx(200 / 120))
    assert table.time_share.tolist() == [0.5, 0.5, 1.0]
    assert (table.kernel["q"], table.bound["q"]) == ("dense, sparse24", "dram, launch")  # the most time first
    assert math.isnan(table.mean_cycles["q"])


def test_seeds_are_means_and_spreads_of_latencies():
    rows = [kernel(30, us, seed=seed) for seed, us in ((0, 10), (1, 20))]
    line = headline_table(frame(rows)).iloc[0]
    assert (line.latency_us, line.dense_latency_us, line.speedup) == (15, 30, 2.0)
    assert line.latency_us_spread == pytest.approx(math.sqrt(50))
    _, names = with_time_unit(pd.DataFrame([line]))
    assert names["latency_us_spread"] == "latency_us_spread"
    big, names = with_time_unit(headline_table(frame([kernel(3e6, us * 1e5, seed=s) for s, us in ((0, 10), (1, 20))])))
    assert big["latency_s"].item() == 1.5
    assert big["latency_s_spread"].item() == pytest.approx(math.sqrt(0.5))


def test_the_unit_leaves_the_smallest_time_readable():
    assert "latency_ms" in with_time_unit(pd.DataFrame({"latency_us": [100.0, 2e6]}))[0]
    assert "latency_us" in with_time_unit(pd.DataFrame({"latency_us": [99.0, 2e6]}))[0]
    assert "latency_us" in with_time_unit(pd.DataFrame({"latency_us": [float("nan")]}))[0]


def test_layers_that_a_gpu_runs_alike_are_one_line():
    rows = [kernel(40, 20, layer=f"layers.{n}.q", block=n) for n in range(3)] + [kernel(100, 60, **UP), *two_layers()]
    table = layer_table(frame(rows))
    alike = table[table["level"] == "kernel"]
    assert alike[["layer", "layers_alike"]].values.tolist() == [["layers.0.q", 3], ["layers.0.up", 1]]
    assert table.loc[table["level"] == "cycle", "layers_alike"].isna().all()


def test_methods_side_by_side_show_times():
    rows = [kernel(40, us, method=method) for method, us in (("a", 20), ("b", 40))]
    ((_, table),) = compare_tables(frame(rows), perplexity_table(None))
    assert "b@mean_latency_us" in compare_columns(table)
    assert not [name for name in compare_columns(table) if name.endswith("cycles")]
    assert table["b@mean_latency_us"].tolist() == [40, 40]
    ((_, cycles),) = compare_tables(frame([row(10, 5, method=m) for m in "ab"]), perplexity_table(None))
    assert not [name for name in compare_columns(cycles) if name.endswith("_us")]


def test_many_token_counts_of_a_gpu_are_one_sentence_with_its_slowdowns():
    rows = [kernel(30, us, tokens=t) for t, us in ((1, 40), (16, 30), (64, 20), (256, 15))]
    (decode, slow), (prefill, fine) = gains(headline_table(frame(rows)))
    where = "tiny, a100-pcie with dtype=fp16 (kernel level), predicted"
    assert decode.startswith(
        f"{where}, decode (1 to 64 tokens): fastest is wanda 2:4 at 64 tokens, 1.50x; slower than dense: wanda 2:4 "
        "at 1 token 0.75x; the other 2: 1.00x to 1.50x. "
    )
    assert prefill.startswith(f"{where}, prefill (256 tokens): wanda 2:4, 2.00x. ")
    assert (slow, fine) == (True, False)
    assert len(gains(headline_table(frame([*rows, *two_layers(), *two_layers(tokens=65)])))) == 4


def test_the_type_of_a_quantizing_kernel_is_its_own_and_not_told_twice():
    rows = [kernel(30, 20), timed("int8", 10), timed("dense", 20)]
    table = headline_table(frame(rows))
    assert table["dtype"].tolist() == ["fp16", "int8", "fp16"]
    shown = typed_table(table)
    assert shown.frame["settings"].tolist() == ["", "kernel=int8 dtype=fp16 l2=cold", "kernel=dense l2=cold"]


def test_a_published_ratio_alone_is_in_no_sum_and_makes_no_line():
    ratio = published(None, None, speedup=1.5, **UP)
    contents = gather(frame([kernel(30, 20), kernel(60, 50, **UP), ratio]), None, "t", [])
    assert contents.headline["source"].tolist() == ["predicted"]
    assert what_cannot_run(contents) is None
    assert sources(contents).files["sources.csv"]["given@speedup"].tolist() == [1.5]


def test_a_report_of_nothing_but_kernels_is_whole(tmp_path):
    rows = [kernel(30, 20), kernel(60, 66, **UP), timed("dense", 31), timed("cutlass24", 21, 31), published(28, 22)]
    written = write_report(frame(rows), None, tmp_path, "t", [])
    page = written["report.html"].read_text()
    for text in (
        "Predicted, measured, published",
        "Dense latency",
        "none needed in",
        "slower than dense",
        "kernel level",
    ):
        assert text in page
    layers = page_data(page)["tables"]["t1"]
    assert "0.91x (slower)" in [text for column in layers["columns"] for text in column["t"]]
    assert not [name for name in written if "cycles" in name]
    assert "sources.csv" in written
    assert "SparseGPT" not in page
    assert "Predicted, measured, published" in written["report.md"].read_text()
    assert "The same GEMM by each source" in written["report.tex"].read_text()
    console = Console(record=True, width=220, file=io.StringIO())
    print_report(frame(rows), None, console, few=4)
    text = console.export_text()
    assert "Predictions against published figures" in text
    assert "Latency (µs)" in text


def test_nothing_but_ratios_still_makes_a_report(tmp_path):
    written = write_report(frame([published(None, None, speedup=1.5)]), None, tmp_path, "t", [])
    assert "Whole model" not in written["report.html"].read_text()


def test_rows_of_simulated_masks_without_a_hash_are_not_excused():
    lines = dict(facts(gather(frame([row(10, 5, mask_sha256=""), kernel(3, 2)]), None, "t", [])))
    assert lines["Masks"] == (
        "0 different hashes; 1 rows without one; none needed in 1 rows: a GPU's time depends on the shape and on being "
        "2:4 alone"
    )
