"""One GEMM by several sources, and what predictions miss: by hand."""

import math

import pytest

from reports.tables.gemms import card_of, error_sentences, gemm_times, sources_table
from reports.tables.sums import checked
from reports.words.headings import heading
from reports.words.present import cell
from reports.words.settings import others, setting
from tests.reports.samples import frame, kernel, published, timed, two_layers


def table(rows: list[dict]):
    return sources_table(checked(frame(rows)))


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("NVIDIA A100 80GB PCIe", "a100-pcie"), ("NVIDIA A100-SXM4-80GB", "a100-sxm"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"), ("NVIDIA H200", "h200"), ("a100-pcie", "a100-pcie"),
        # Other memory or another chip: no preset describes them.
        ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-40GB"), ("NVIDIA A100-PCIE-40GB", "NVIDIA A100-PCIE-40GB"),
        ("NVIDIA GH200 480GB", "NVIDIA GH200 480GB"), ("NVIDIA H100 NVL", "NVIDIA H100 NVL"),
    ],
)  # fmt: skip
def test_cards_are_matched_with_their_presets_alone(name, preset):
    assert card_of(name) == preset


def test_settings_are_read_by_key():
    assert setting("kernel=a dtype=fp16 published=A paper of two words", "published") == "A paper of two words"
    assert setting("dtype=fp16", "kernel") == ""
    assert others("kernel=a dtype=fp16 l2=cold", "kernel", "dtype") == "l2=cold"


def test_errors_are_predicted_over_given_minus_one():
    line = table([kernel(80, 60), published(100, 50)]).iloc[0]
    assert (line["given@dense_us"], line["given@sparse24_us"], line["given@speedup"]) == (100, 50, 2.0)
    assert (line["predicted@dense_us"], line["predicted@sparse24_us"]) == (80, 60)
    assert line["error (%)@dense_error"] == pytest.approx(-0.2)
    assert line["error (%)@sparse24_error"] == pytest.approx(0.2)
    assert line["error (%)@speedup_error"] == pytest.approx(80 / 60 / 2 - 1)
    assert (line["stated_p90"], line["reference"], line["where"]) == (0.2, "Paper (published)", "tiny: q")
    assert cell("error (%)@dense_error", -0.2).text == "-20.0"
    assert cell("error (%)@dense_error", 0.031).text == "+3.1"
    assert heading("given@sparse24_us").flat == "given 2:4 (µs)"


def test_a_ratio_alone_has_an_error_of_the_speedup_alone():
    line = table([kernel(90, 60), published(None, None, speedup=1.2)]).iloc[0]
    assert math.isnan(line["given@dense_us"])
    assert math.isnan(line["error (%)@dense_error"])
    assert line["error (%)@speedup_error"] == pytest.approx(1.5 / 1.2 - 1)


def test_measured_kernels_of_a_card_are_held_against_its_preset():
    rows = [
        kernel(100, 60), timed("dense", 110), timed("cusparselt24", 55, 110), timed("cutlass24", 70, 110),
        timed("int8", 50, 110), timed("int8-24", 40, 110), timed("int4", 30, 110),
        kernel(60, 30, settings="dtype=int8"),
    ]  # fmt: skip
    lines = table(rows).set_index("dtype")
    assert lines["given@dense_us"].to_dict() == {"fp16": 110, "int8": 50}
    assert lines["given@sparse24_us"].to_dict() == {"fp16": 55, "int8": 40}  # the fastest 2:4 kernel
    assert lines["given@speedup"].to_dict() == {"fp16": 2.0, "int8": pytest.approx(50 / 40)}
    assert lines["predicted@dense_us"].to_dict() == {"fp16": 100, "int8": 60}
    assert lines["reference"]["fp16"] == "measured on NVIDIA A100 80GB PCIe l2=cold"


def test_only_the_same_card_type_tokens_and_shape_are_held_against_each_other():
    for other in (
        {"target": "h200"}, {"settings": "dtype=bf16 published=Paper"}, {"tokens": 2}, {"out_features": 8},
        {"in_features": 20},
    ):  # fmt: skip
        assert table([kernel(80, 60), published(100, 50, **other)]).empty
    assert table([kernel(80, 60), *two_layers()]).empty
    assert table([published(100, 50), timed("dense", 90)]).shape[0] == 2  # two sources without a prediction


def test_cold_and_warm_times_and_several_publications_are_lines_of_their_own():
    rows = [kernel(80, 60), published(100, 50), published(90, 45, name="Another"), timed("dense", 70),
            timed("dense", 65, settings="kernel=dense dtype=fp16 l2=warm")]  # fmt: skip
    assert table(rows)["given@dense_us"].tolist() == [100, 90, 70, 65]


def test_a_mask_that_runs_dense_has_no_predicted_24_time():
    dense = kernel(80, 80, kernel="dense", pattern="unstructured", method="m")
    line = gemm_times(checked(frame([dense]))).iloc[0]
    assert line["dense_us"] == 80
    assert math.isnan(line["sparse24_us"])
    assert math.isnan(line["speedup"])


def test_the_same_shape_in_many_layers_is_one_line():
    rows = [f(n, layer=f"layers.{i}.{r}", role=r, block=i) for f, n in ((lambda us, **o: kernel(us, us / 2, **o), 80),
            (lambda us, **o: published(us, us / 2, **o), 100)) for i in range(3) for r in "qk"]  # fmt: skip
    found = table(rows)
    assert len(found) == 1
    assert found["where"].item() == "tiny: q k"


def test_the_sentence_gives_medians_the_largest_with_its_sign_and_the_sign_told():
    rows = []
    for n, (ours, theirs) in enumerate([((110, 60), (100, 50)), ((70, 60), (100, 90)), ((100, 50), (100, 120))]):
        shape = {"out_features": 4 + n, "layer": str(n)}
        rows += [kernel(*ours, **shape), published(*theirs, **shape)]
    (said,) = error_sentences(table(rows))
    # dense +10, -30, 0: median 10; 2:4 +20, -33.3, -58.3; speedup 1.83/2, 1.17/1.11, 2/0.83
    assert "dense time 10.0 % (largest -30.0 %, of 3)" in said
    assert "2:4 time 33.3 % (largest -58.3 %, of 3)" in said
    assert "speedup 8.3 % (largest +140.0 %, of 3)" in said
    assert said.endswith("faster or slower than dense told right in 2 of 3.")
    assert error_sentences(table([kernel(1, 1)])) == []
