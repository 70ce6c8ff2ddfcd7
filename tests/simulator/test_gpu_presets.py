"""Presets and `predict`: what they accept and refuse, and published facts that they must reproduce."""

from pathlib import Path

import numpy as np
import pytest

from simulator.gpu import GPUS, load_gpu, predict, spmm_published
from simulator.gpu.published import GEMMS, MEDIAN_SHAPES, MEDIAN_SPEEDUPS, MEDIAN_TOKENS, SLIDESPARSE, VLLM_5144
from workloads import UserError

DATA = Path(__file__).parents[3] / "shared" / "data" / "gpu" / "dense_vs_24_gemm.csv"
BOTH = ("int8", "fp8")
EIGHT_BIT = {"a100": ("int8",), "h100": BOTH, "h200": BOTH, "b200": BOTH, "rtx": BOTH}
MEASURED = {
    "a100-pcie": "NVIDIA A100 80GB PCIe", "h100-pcie": "NVIDIA H100 PCIe", "b200": "NVIDIA B200",
    "rtx-4090": "NVIDIA GeForce RTX 4090",
}  # fmt: skip


@pytest.mark.parametrize("name", GPUS)
def test_presets_load_and_support_what_the_card_has(name):
    spec = load_gpu(name)
    for dtype in ("fp16", "bf16", *EIGHT_BIT[name.split("-")[0]]):
        got = predict(spec, 2048, 4096, 4096, dtype)
        assert got.dense.time_us[0] > 0
        assert (
            0.5 < got.speedup[0] < (6 if (name, dtype) == ("b200", "int8") else 2.5)
        )  # its dense int8 kernels are weak
        assert 0 < got.speedup_error_p90[0] < 1.5
        for what in ("dense", "sparse24", "speedup"):
            medians, p90 = getattr(got.error, f"{what}_median"), getattr(got.error, f"{what}_p90")
            assert all(0 < median <= high for median, high in zip(medians, p90, strict=True))
        assert got.error.basis
    half = predict(spec, 64, 4096, 4096, "fp16").dense.time_us
    assert predict(spec, 64, 4096, 4096, "bf16").dense.time_us == half


@pytest.mark.parametrize("name", ["a100-pcie", "a100-sxm"])
def test_ampere_has_no_fp8(name):
    with pytest.raises(UserError, match="no fp8"):
        predict(load_gpu(name), 1, 64, 64, "fp8")


@pytest.mark.parametrize(("name", "of"), [("a100-sxm", "a100-pcie"), ("h100-sxm", "h100-pcie"), ("h200", "h100-pcie")])
def test_cards_without_data_say_so_and_state_a_wider_error(name, of):
    ours, fitted = load_gpu(name).fp16.error, load_gpu(of).fp16.error
    assert "no data of this card" in ours.basis
    assert "cross-validated" in fitted.basis
    assert (np.array(ours.dense_p90) > fitted.dense_p90).all()
    assert (np.array(ours.speedup_median) > fitted.speedup_median).all()
    got = predict(load_gpu(name), np.array([1024, 16]), 4096, 4096)
    assert got.extrapolated.tolist() == [
        "card as set not measured",
        "card as set not measured; m 16 below 64, m/k 1/256 below 1/128",
    ]


def test_hopper_int8_rests_on_its_own_data():
    error = load_gpu("h100-pcie").int8.error
    assert "H100 PCIe, int8" in error.basis
    assert load_gpu("h100-pcie").int8.dense != load_gpu("h100-pcie").fp8.dense


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("memory.bandwidth=3", "memory.bandwidth"),
        ("chip.sms=0", "chip.sms"),
        ("chip.sms=1.5", "chip.sms"),
        ("fp16.dense.efficiency=1.5", "fp16.dense.efficiency"),
        ("fp16.dense.raster_tiles=0.5", "raster_tiles"),
        ("memory.l2_warm=3", "memory.l2_warm"),
        ("power.static_w=5000", "power.static_w"),
        ("tiles.dense_tokens=[]", "tiles.dense_tokens"),
    ],
)
def test_bad_overrides_name_the_key(override, said):
    with pytest.raises(UserError, match=said) as error:
        load_gpu("a100-pcie", [override])
    assert "\n" not in str(error.value)


def test_unknown_gpu_suggests():
    with pytest.raises(UserError, match="did you mean 'a100-pcie'"):
        load_gpu("a100-pci")


def test_overrides_act():
    at = (16384, 8192, 8192)
    base = predict(load_gpu("h100-pcie"), *at).dense
    capped = predict(load_gpu("h100-pcie", ["power.limit_w=250"]), *at).dense
    assert capped.time_us[0] > base.time_us[0]
    assert capped.clock_mhz[0] < base.clock_mhz[0]
    cold = predict(load_gpu("h100-pcie", ["memory.l2_warm=false"]), 64, 2048, 2048).dense
    assert cold.dram_bytes[0] == pytest.approx(2 * (64 * 2048 + 2048 * 2048 + 64 * 2048))


def test_sizes_broadcast_and_agree_with_one_at_a_time():
    spec = load_gpu("a100-pcie")
    m = np.array([1, 64, 4096])
    many = predict(spec, m, 4096, 11008, "int8")
    for i, tokens in enumerate(m):
        one = predict(spec, int(tokens), 4096, 11008, "int8")
        assert one.dense.time_us[0] == many.dense.time_us[i]
        assert one.sparse24.tile[0] == many.sparse24.tile[i]
    assert predict(spec, np.array([], dtype=np.int64), 1, 1).speedup.shape == (0,)


@pytest.mark.parametrize("bad", [0, -1, 2**24 + 1, 1.5, 2.0, "8", True, np.array([1, 0])])
def test_sizes_are_whole_and_positive(bad):
    with pytest.raises(UserError) as error:
        predict(load_gpu("a100-pcie"), bad, 64, 64)
    assert "\n" not in str(error.value)


def test_the_largest_sizes_stay_finite():
    assert np.isfinite(predict(load_gpu("h200"), 2**24, 2**24, 2**24).speedup).all()


@pytest.mark.parametrize(
    ("dtype", "n", "k", "allowed"),
    [
        ("fp16", 16, 16, True), ("fp16", 24, 16, False), ("fp16", 16, 40, False), ("bf16", 48, 16, True),
        ("int8", 32, 32, True), ("int8", 48, 32, False), ("fp8", 64, 48, False), ("fp8", 96, 32, True),
    ],
)  # fmt: skip
def test_shape_rules_of_pytorch(dtype, n, k, allowed):
    got = predict(load_gpu("h100-pcie"), 1, n, k, dtype)
    assert np.isfinite(got.sparse24.time_us[0]) == allowed
    assert np.isfinite(got.speedup[0]) == allowed
    assert (got.reason[0] == "") == allowed
    assert np.isfinite(got.dense.time_us[0])


def test_tokens_are_padded_for_the_sparse_kernel_alone():
    got = predict(load_gpu("a100-pcie"), np.array([1, 8, 9]), 4096, 4096, "fp16").sparse24.time_us
    assert got[0] == got[1]
    assert got[2] >= got[1]


def test_capped_speedup_never_exceeds_what_24_can_give():
    got = predict(load_gpu("a100-pcie"), np.array([64, 1024, 8192]), 8192, 8192, "int8")
    assert (got.speedup_capped <= 2).all()
    assert (got.speedup_capped <= got.speedup).all()


# Facts of SlideSparse's measurements and NVIDIA's data sheets.


def test_24_loses_on_small_cubes_and_wins_on_large_ones():
    side = np.array([256, 512, 4096, 8192])
    hopper = predict(load_gpu("h100-pcie"), side, side, side, "bf16").speedup
    assert (hopper[:2] < 1).all()
    assert (hopper[2:] > 1.2).all()


def test_a100_pcie_dense_plateau_and_sparse_sag():
    side = np.array([4096, 8192, 16384])
    got = predict(load_gpu("a100-pcie"), side, side, side, "fp16")
    dense, sparse = (2 * side.astype(float) ** 3 / k.time_us * 1e-6 for k in (got.dense, got.sparse24))
    assert (abs(dense / 235 - 1) < 0.12).all()
    assert sparse[0] > 1.1 * sparse[2]  # measured: 421 to 287; the model falls less


def test_wide_outputs_over_a_short_k_gain_little_on_a100():
    got = predict(load_gpu("a100-pcie"), 16384, 16384, 2048, "fp16")
    assert 1.15 < got.speedup[0] < 1.5


def test_nothing_beats_the_data_sheet():
    for name, tflops in (("a100-sxm", 312), ("h200", 1070)):
        got = predict(load_gpu(name), 8192, 8192, 8192, "fp16")
        assert 2 * 8192**3 / got.dense.time_us[0] * 1e-6 < tflops
        assert 2 * 8192**3 / got.sparse24.time_us[0] * 1e-6 < 2 * tflops


@pytest.mark.parametrize(("gpu", "dtype"), MEDIAN_SPEEDUPS)
def test_median_speedup_of_sixteen_linears(gpu, dtype):
    n, k = np.array(MEDIAN_SHAPES).T
    ratios = [
        float(np.median(predict(load_gpu(gpu), m, n, k, dtype).speedup)) / published
        for m, published in zip(MEDIAN_TOKENS, MEDIAN_SPEEDUPS[gpu, dtype], strict=True)
    ]
    assert np.median(np.abs(np.log(ratios))) < 0.08
    assert max(abs(np.log(ratios))) < 0.2


@pytest.mark.parametrize("one", [g for g in GEMMS if g.source in (SLIDESPARSE, VLLM_5144)], ids=str)
def test_decode_sized_gemms_of_others(one):
    got = predict(load_gpu(one.gpu), one.m, one.n, one.k, one.dtype)
    assert got.dense.time_us[0] == pytest.approx(one.dense_us, rel=0.25)


# Left out of the fit, medians were at most 7 % of a time and 8 % of a speedup for all but one type (RTX 4090 int8), and
# the side of 1.0 was right in 88 % of those not within 5 % of it; `benchmarks/fit_gpu.py` prints all of them.
@pytest.mark.skipif(not DATA.exists(), reason="optional data: ../shared/data/gpu/dense_vs_24_gemm.csv")
@pytest.mark.parametrize("name", MEASURED)
def test_presets_are_as_near_to_the_data_as_cross_validation_says(name):
    import pandas as pd

    rows = pd.read_csv(DATA)
    rows = rows[(rows["gpu"] == MEASURED[name]) & (rows["m"] <= 16384)]
    spec = load_gpu(name)
    for dtype, some in rows.groupby("dtype"):
        got = predict(spec, *(some[c].to_numpy() for c in ("m", "n", "k")), str(dtype))
        weak = (name, dtype) == ("rtx-4090", "int8")
        times = [got.dense.time_us / some["dense_us"] - 1, got.sparse24.time_us / some["sparse24_us"] - 1]
        measured = some["dense_us"] / some["sparse24_us"]
        assert np.median(np.abs(np.concatenate(times))) <= 0.08
        assert np.median(abs(got.speedup / measured - 1)) <= (0.1 if weak else 0.08)
        clear = (measured < 0.95) | (measured > 1.05)
        assert ((got.speedup > 1) == (measured > 1))[clear].mean() >= 0.85
        # nine of ten within the stated band, and hardly a verdict that is wrong
        off = np.exp(np.abs(np.log(got.speedup / measured))) - 1
        assert (off <= got.speedup_error_p90).mean() >= 0.87
        said = got.verdict != "not distinguishable"
        assert ((got.speedup > 1) == (measured > 1))[said].mean() >= 0.95
        assert (got.extrapolated == "").all()


@pytest.mark.parametrize("name", GPUS)
def test_nothing_is_faster_than_peak_rate_and_bandwidth(name):
    spec = load_gpu(name)
    rng = np.random.default_rng(1)
    m, n, k = (2 ** rng.uniform(*ends, 60) for ends in ((0, 15), (0, 11), (0, 10)))
    m, n, k = m.astype(np.int64), 32 * n.astype(np.int64), 32 * k.astype(np.int64)
    for dtype in ("fp16", *EIGHT_BIT[name.split("-")[0]]):
        precision = getattr(spec, dtype)
        got = predict(spec, m, n, k, dtype)
        peak_us = m * n * k / (spec.chip.sms * spec.chip.clock_mhz * precision.macs_per_cycle)
        assert (got.dense.time_us > peak_us).all()
        assert (got.sparse24.time_us > peak_us / 2).all()
        for kernel in (got.dense, got.sparse24):
            assert (kernel.dram_bytes / kernel.time_us < spec.memory.bandwidth_gbps * 1e3).all()
            assert (kernel.clock_mhz <= spec.chip.clock_mhz * (1 + 1e-9)).all()


@pytest.mark.parametrize("name", GPUS)
def test_more_tokens_features_or_inputs_never_take_less(name):
    spec = load_gpu(name)
    m, n, k = (
        np.array(values, dtype=np.int64)
        for values in ([1, 64, 700, 98, 257], [64, 2048, 640, 1024, 320], [9056, 2048, 64, 5312, 2656])
    )
    for dtype in ("fp16", *EIGHT_BIT[name.split("-")[0]]):
        n, k = n // 32 * 32, k // 32 * 32
        base = predict(spec, m, n, k, dtype)
        for grown in ((m + 9, n, k), (m, n + 32, k), (m, n, k + 32)):
            more = predict(spec, *grown, dtype)
            assert (more.dense.time_us >= base.dense.time_us * (1 - 1e-9)).all()
            assert (more.sparse24.time_us >= base.sparse24.time_us * (1 - 1e-9)).all()


def test_spmm_costs_are_flash_llms_at_its_sparsities():
    at_80 = spmm_published(8, 0.8)
    assert at_80.low == pytest.approx(13.5 / 25)
    assert at_80.high == pytest.approx(12.5 / 22)
    assert at_80.published
    assert spmm_published(32, 0.9).low == pytest.approx(53 / 112)


@pytest.mark.parametrize(("tokens", "sparsity"), [(8, 0.29), (8, 0.91), (33, 0.8), (2048, 0.8)])
def test_spmm_outside_the_published_range_is_not_invented(tokens, sparsity):
    cost = spmm_published(tokens, sparsity)
    assert not cost.published
    assert np.isnan(cost.low)
    assert np.isnan(cost.high)


def test_spmm_bounds_are_ordered_and_fall_with_sparsity_in_each_range():
    for tokens in (1, 8, 16, 32):
        for step in ([0.3, 0.4, 0.5, 0.6, 0.69], [0.7, 0.75, 0.8, 0.85, 0.9]):
            costs = [spmm_published(tokens, s) for s in step]
            assert all(c.low <= c.high for c in costs)
            assert [c.low for c in costs] == sorted((c.low for c in costs), reverse=True)
            assert [c.high for c in costs] == sorted((c.high for c in costs), reverse=True)


@pytest.mark.parametrize(("tokens", "sparsity"), [(0, 0.8), (8, -0.1), (8, 80), (8, float("nan"))])
def test_spmm_refuses_nonsense(tokens, sparsity):
    with pytest.raises(UserError):
        spmm_published(tokens, sparsity)
