"""One token through a masked linear on a GPU: bytes of masks, laws, and the published measurements where they are."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simulator.gpu import GPUS, load_gpu
from simulator.gpu.layers import open_gpu
from simulator.gpu.operators import spmv, spmv_of_mask
from simulator.gpu.operators.spmv import LAUNCH_US, random_shape
from workloads import BundleHeader, PackedMask
from workloads.bundle import LayerEntry
from workloads.conditions import Conditions
from workloads.errors import UserError
from workloads.operations import linears_in_memory

KERNELS = ("macko", "csr", "cublas")
DATA = Path(__file__).parents[3] / "shared" / "data" / "performance"
CARD = "GeForce RTX 4090"
LABELS = {"macko": "MACKO", "csr": "cuSPARSE", "cublas": "cuBLAS"}
LLAMA_2_7B = [(4096, 4096)] * 4 + [(11008, 4096)] * 2 + [(4096, 11008)]  # linears of a layer, outputs x inputs
measured = pytest.mark.skipif(not DATA.exists(), reason="the measurements are not here")


def entries_of(kept: np.ndarray) -> int:
    """Kept weights, and each zero that ends a run of 16, 32 ... of them: a walk over all places."""
    entries = 0
    for row in kept:
        gap = 0
        for bit in row:
            gap = 0 if bit or gap == 15 else gap + 1
            entries += gap == 0
    return entries


@pytest.mark.parametrize("density", [0.0, 0.03, 0.1, 0.2, 0.5, 1.0])
def test_expected_values_are_those_of_random_masks(density):
    """Within five standard errors over 400 rows, exactly where nothing is random."""
    kept = np.random.default_rng(1).random((400, 203)) < density
    each = np.array([entries_of(row[None]) for row in kept])
    (expected,) = random_shape(np.array([400]), np.array([203]), np.array([density])).stored
    assert abs(each.sum() - expected) <= 5 * each.std() * np.sqrt(len(each)) + 1e-6


def test_expected_values_of_a_short_row():
    """Of 17 places: a zero is stored at place 15 where all before it are empty, at 16 where place 0 alone is kept."""
    density = 0.3
    first, second = 0.7**16, density * 0.7**16
    (found,) = random_shape(np.array([1]), np.array([17]), np.array([density])).stored
    assert found == pytest.approx(17 * density + first + second)


def test_a_mask_s_time_is_that_of_its_bytes():
    """alone = False: a launch, and bytes over a share of the bandwidth."""
    gpu = load_gpu("rtx-4090")
    kept = np.random.default_rng(0).random((257, 611)) < 0.08
    mask = PackedMask.from_dense(kept)
    values = -(-entries_of(kept) // 8) * 8
    beside = 2 * (257 + 611)
    bytes_of = {"macko": 2.5 * values + 4 * 258 + beside, "cublas": 2 * kept.size + beside}
    for kernel, moved in bytes_of.items():
        fitted = gpu.operators.spmv[kernel]
        expected = moved / (gpu.memory.bandwidth_gbps * 1e3 * fitted.memory_efficiency)
        assert spmv_of_mask(gpu, mask, kernel, alone=False).latency_us - LAUNCH_US == pytest.approx(expected)
    assert spmv_of_mask(gpu, mask).latency_us == pytest.approx(
        spmv(gpu, 257, 611, kept.mean()).latency_us, rel=0.01
    )  # macko is the first


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_faster_than_bytes_and_never_faster_for_more(kernel):
    gpu = load_gpu("rtx-4090")
    density = np.linspace(0, 1, 41)
    for rows, cols in ((64, 64), (4096, 11008), (49152, 12288)):
        for alone in (True, False):
            got = spmv(gpu, rows, cols, density, kernel, alone).latency_us
            least = 2 * rows * cols * (1.0 if kernel == "cublas" else density)
            assert (got * 1.000001 >= least / (gpu.memory.bandwidth_gbps * 1e3)).all()
            dense = density >= 0.1  # below, MACKO's stored zeros grow while kept weights shrink
            assert (np.diff(got[dense]) >= -1e-9).all()


def test_cards_that_were_not_measured_and_bad_numbers_are_refused():
    gpu = load_gpu("rtx-4090")
    for name in set(GPUS) - {"rtx-4090"}:
        with pytest.raises(UserError, match="measured on rtx-4090 alone"):
            spmv(load_gpu(name), 4096, 4096, 0.5)
    for rows, cols, density, kernel, said in (
        (0, 4096, 0.5, "macko", "rows"),
        (4096, -3, 0.5, "macko", "cols"),
        (4096, 4096, 50, "macko", "density = 50"),
        (4096, 4096, float("nan"), "macko", "density = nan"),
        (4096, 4096, 0.5, "flash-llm", "macko, csr, cublas"),
    ):
        with pytest.raises(UserError, match=said):
            spmv(gpu, rows, cols, density, kernel)
    assert "below" in spmv(gpu, 64, 64, 0.5).extrapolated[0]


def test_layers_take_the_kernel_where_it_is_asked_for():
    mask = PackedMask.from_dense(np.random.default_rng(0).random((640, 4096)) < 0.3)
    entry = LayerEntry("l", "q", 0, *mask.shape, "unstructured", mask.nnz, None, mask.sha256(), "", None)
    (layer,) = linears_in_memory([(entry, mask)])

    def row_of(*sets):
        (row,) = open_gpu("rtx-4090", sets).rows(BundleHeader("m", "x"), layer, Conditions(tokens=1), {})
        return row

    gpu = load_gpu("rtx-4090")
    own, dense = spmv_of_mask(gpu, mask, alone=False), spmv(gpu, 640, 4096, 1.0, "cublas", alone=False)
    row = row_of("kernel=macko")
    assert (row["kernel"], row["latency_us"]) == ("macko", own.latency_us[0])
    assert row["speedup"] == dense.latency_us[0] / own.latency_us[0]
    assert "rows 640 below" in row["extrapolated"]
    assert row_of()["kernel"] == "dense"
    target = open_gpu("rtx-4090", ["kernel=macko"])
    assert target.key != open_gpu("rtx-4090").key
    with pytest.raises(UserError, match="tokens = 1, not 16"):
        target.check(Conditions(tokens=16))
    for sets, dtype, said in (
        (["kernel="], "fp16", "no kernel"),
        (["kernel=x"], "fp16", "macko"),
        (["kernel=macko"], "int8", "fp16"),
    ):
        with pytest.raises(UserError, match=said):
            open_gpu("rtx-4090", sets, dtype)


@measured
@pytest.mark.parametrize(("kernel", "median"), [("macko", 0.02), ("csr", 0.1), ("cublas", 0.01)])
def test_measured_times(kernel, median):
    rows = pd.read_csv(DATA / "spmv_unstructured.csv")
    rows = rows[(rows["gpu"] == CARD) & (rows["kernel"] == LABELS[kernel])]
    sizes = (rows[name].to_numpy() for name in ("rows", "cols", "density"))
    timing = spmv(load_gpu("rtx-4090"), *sizes, LABELS[kernel])
    errors = np.abs(np.log(timing.latency_us / rows["time_us"].to_numpy()))
    assert np.median(np.expm1(errors)) < median
    assert np.mean(errors <= np.log1p(timing.latency_error_p90)) >= 0.85
    assert (timing.extrapolated == "").all()


@measured
def test_the_density_below_which_macko_is_faster():
    rows = pd.read_csv(DATA / "spmv_unstructured.csv")
    gpu, density = load_gpu("rtx-4090"), np.linspace(0.05, 1, 200)
    for (n, cols), some in rows[rows["gpu"] == CARD].groupby(["rows", "cols"]):
        times = some.pivot(index="density", columns="kernel", values="time_us")
        found = np.interp(1, times["MACKO"] / times["cuBLAS"], times.index)
        macko, dense = (spmv(gpu, n, cols, density, kernel).latency_us for kernel in ("macko", "cublas"))
        assert np.interp(1, macko / dense, density) == pytest.approx(found, abs=0.04)


@measured
def test_decode_of_a_whole_model():
    """The linears exchanged, the rest of a token as long as the dense model's rate leaves it."""
    gpu = load_gpu("rtx-4090")

    def linears_us(kernel, density):
        return 32 * sum(spmv(gpu, *shape, density, kernel, alone=False).latency_us[0] for shape in LLAMA_2_7B)

    for row in pd.read_csv(DATA / "whole_model_macko_decode.csv").itertuples():
        exchanged = linears_us("macko", row.density) - linears_us("cublas", 1.0)
        rate = 1e6 / (1e6 / row.dense_tokens_per_s + exchanged)
        assert rate == pytest.approx(row.sparse_tokens_per_s, rel=0.05)
