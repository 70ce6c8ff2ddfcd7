"""Presets and `predict`: what they accept and refuse, and published facts they must reproduce (none of them from our output)."""

from pathlib import Path

import numpy as np
import pytest

from simulator.gpu import GPUS, load_gpu, predict, spmm_published
from simulator.gpu.published import GEMMS, MEDIAN_SHAPES, MEDIAN_SPEEDUPS, MEDIAN_TOKENS, SLIDESPARSE, VLLM_5144
from workloads import UserError

DATA = Path(__file__).parents[3] / "shared" / "data" / "gpu" / "dense_vs_24_gemm.csv"
EIGHT_BIT = {"a100": ("int8",), "h100": ("int8", "fp8"), "h200": ("int8", "fp8")}


@pytest.mark.parametrize("name", GPUS)
def test_presets_load_and_support_what_the_card_has(name):
    spec = load_gpu(name)
    for dtype in ("fp16", "bf16", *EIGHT_BIT[name.split("-")[0]]):
        got = predict(spec, 2048, 4096, 4096, dtype)
        assert got.dense.time_us[0] > 0
        assert 0.5 < got.speedup[0] < 2.5
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
        "card as set not measured; m 16 below 64, m/k 0.003906 below 0.007812",
    ]


def test_hopper_int8_is_borrowed_and_says_so():
    error = load_gpu("h100-pcie").int8.error
    assert "no int8 data" in error.basis


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


@pytest.mark.skipif(not DATA.exists(), reason="optional data: ../shared/data/gpu/dense_vs_24_gemm.csv")
@pytest.mark.parametrize(("gpu", "name"), [("NVIDIA A100 80GB PCIe", "a100-pcie"), ("NVIDIA H100 PCIe", "h100-pcie")])
def test_presets_are_within_their_stated_error_on_the_data(gpu, name):
    import pandas as pd

    rows = pd.read_csv(DATA)
    rows = rows[(rows["gpu"] == gpu) & (rows["m"] <= 16384)]
    for dtype, some in rows.groupby("dtype"):
        got = predict(load_gpu(name), *(some[c].to_numpy() for c in ("m", "n", "k")), str(dtype))
        if "no int8 data" in got.error.basis:
            continue
        assert (
            np.median(abs(got.dense.time_us / some["dense_us"] - 1)) <= np.expm1(np.mean(got.error.dense_median)) + 0.01
        )
        assert (
            np.median(abs(got.sparse24.time_us / some["sparse24_us"] - 1))
            <= np.expm1(np.mean(got.error.sparse24_median)) + 0.01
        )


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
