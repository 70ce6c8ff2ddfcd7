"""Stated errors: how they grow away from the data, what is called extrapolated, and what may be said of a speedup."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.gpu import GPUS, load_gpu, predict
from simulator.gpu.confidence import error_p90, outside, short, stated
from simulator.gpu.layers import expected_figures, figures
from simulator.gpu.spec import Coverage, Error
from workloads.errors import UserError
from workloads.verdicts import verdict

COVERAGE = Coverage(
    card="Card", tokens=(64, 1024), features=(256, 4096), inputs=(256, 4096), features_per_input=(0.25, 4),
    tokens_per_feature=(1 / 64, 4), tokens_per_input=(1 / 64, 4),
)  # fmt: skip
FLAT = (0.1, 0.1)
ERROR = Error((64, 1024), FLAT, (0.4, 0.2), FLAT, FLAT, FLAT, FLAT, 0.05, 0.0, 0.1, "none")


def octaves_of(m: int, n: int, k: int) -> tuple[float, str]:
    octaves, said = outside(COVERAGE, *(np.array([value], dtype=np.int64) for value in (m, n, k)))
    return float(octaves[0]), str(said[0])


@pytest.mark.parametrize(
    ("gemm", "octaves", "said"),
    [
        ((64, 1024, 1024), 0, ""),
        ((300, 700, 600), 0, ""),
        ((16, 512, 512), 2, "m 16 below 64, m/n"),
        ((4096, 4096, 4096), 2, "m 4096 above 1024"),
        ((64, 4096, 512), 1, "n/k 8 above 4"),
        ((128, 128, 256), 1, "n 128 below 256"),
    ],
)
def test_octaves_outside_are_those_of_the_farthest_quantity(gemm, octaves, said):
    found, words = octaves_of(*gemm)
    assert found == pytest.approx(octaves)
    assert words.startswith(said.split(", m/n")[0])
    assert (words == "") == (said == "")


def test_errors_follow_log_tokens_and_grow_with_octaves():
    m = np.array([64, 256, 1024, 8192, 1])
    at = error_p90(ERROR, "dense", m, np.zeros(5))
    assert np.log1p(at) == pytest.approx([0.4, 0.3, 0.2, 0.2, 0.4])
    assert np.log1p(error_p90(ERROR, "speedup", m, np.full(5, 2.0))) == pytest.approx([0.3] * 5)


def test_a_verdict_needs_the_whole_band_on_one_side():
    speedup = np.array([1.2, 1.05, 1.0, 0.95, 0.8, np.nan])
    assert verdict(speedup, np.full(6, 0.1)).tolist() == ["faster", *["not distinguishable"] * 3, "slower", ""]
    assert verdict(np.array([1.1, 1 / 1.1]), np.full(2, 0.1)).tolist() == ["not distinguishable"] * 2


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(GPUS), st.integers(1, 10**6), st.integers(1, 2000), st.integers(1, 2000))
def test_predictions_beyond_the_data_say_so_and_are_less_sure(name, m, n, k):
    spec = load_gpu(name)
    got = predict(spec, m, 32 * n, 32 * k)
    low = predict(spec, max(1, m // 4), 32 * n, 32 * k)
    e = got.speedup_error_p90[0]
    assert got.verdict[0] == (
        "faster" if got.speedup[0] > 1 + e else "slower" if got.speedup[0] < 1 / (1 + e) else "not distinguishable"
    )
    if spec.coverage.card:
        inside = spec.coverage.tokens[0] <= m <= spec.coverage.tokens[1]
        assert inside or got.extrapolated[0] != ""
    else:
        assert got.extrapolated[0] != ""
    if m <= spec.coverage.tokens[0]:
        assert low.speedup_error_p90[0] >= e


def test_no_24_kernel_no_verdict():
    got = predict(load_gpu("a100-pcie"), 64, 24, 16)
    assert got.verdict[0] == ""
    assert math.isnan(got.speedup_error_p90[0])


def test_a_24_mask_that_runs_dense_says_why_in_its_row():
    odd = predict(load_gpu("a100-pcie"), 64, 24, 48)
    row = figures(odd, follows=True)
    assert (row["kernel"], row["speedup"], row["verdict"]) == ("dense", 1.0, "same kernel")
    assert row["reason"] == "runs dense: 2:4 needs n and k in multiples of 16, not 24 x 48"
    assert figures(odd, follows=False)["reason"] == ""
    assert figures(predict(load_gpu("a100-pcie"), 64, 32, 48), follows=True)["reason"] == ""


def test_the_verdict_on_a_mean_is_that_of_the_mean():
    first = {"latency_us": 10.0, "dense_latency_us": 10.0, "speedup": 1.0, "latency_error_p90": 0.1, "extrapolated": ""}
    fast = {**first, "dense_latency_us": 30.0, "speedup": 3.0, "latency_error_p90": 0.2, "extrapolated": "m"}
    runs = [(0.5, {**first, "speedup_error_p90": 0.1, "verdict": "not distinguishable"}),
            (0.5, {**fast, "speedup_error_p90": 0.3, "verdict": "faster"})]  # fmt: skip
    row = expected_figures(runs)
    assert (row["speedup"], row["speedup_error_p90"], row["verdict"], row["extrapolated"]) == (2.0, 0.3, "faster", "m")
    same = [(weight, {**run, "speedup_error_p90": None, "verdict": "same kernel"}) for weight, run in runs]
    assert expected_figures(same)["verdict"] == "same kernel"


def test_overrides_make_every_prediction_extrapolated():
    got = predict(load_gpu("a100-pcie", ["power.limit_w=250"]), 1024, 4096, 4096)
    assert got.extrapolated[0] == "card as set not measured"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("fp16.error.dense_p90=[0.1]", "1 values for"),
        ("fp16.error.tokens=[64, 64, 1024, 4096, 16384]", "must grow"),
        ("coverage.tokens=[64.0, 5.0]", "lowest value comes first"),
    ],
)
def test_curves_that_do_not_fit_are_refused(override, said):
    with pytest.raises(UserError, match=said):
        load_gpu("a100-pcie", [override])


def test_the_sentence_of_reports_gives_every_token_count():
    assert stated(ERROR) == ("(dense time, 2:4 time, speedup) 49, 11, 11 % at 64 tokens; 22, 11, 11 % at 1024 tokens")


@pytest.mark.parametrize(
    ("value", "text"), [(37888.0, "37888"), (8.0, "8"), (10.5714, "10.6"), (1 / 256, "1/256"), (0.75, "1/1.33")]
)
def test_what_lies_outside_is_named_in_numbers_one_can_read(value, text):
    assert short(value) == text
