"""Whole models by a kernel for masks without a pattern: rows from the very masks, memory, refusals, published rates."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import prunesim as ps
from checkpoints.catalog_layers import catalog_layers
from simulator.gpu import load_gpu
from simulator.gpu.operators import linear, spmv, spmv_of_mask
from simulator.gpu.operators.spmv import shape_of_mask, weight_bytes

CONFIG = {
    "model_type": "llama", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000,
}  # fmt: skip
MACKO = dict(on="rtx-4090", set={"kernel": "macko"}, prompt=8, generate=5)
RATES = Path(__file__).parents[3] / "shared" / "data" / "performance" / "whole_model_macko_decode.csv"


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("config") / "small.json"
    path.write_text(json.dumps(CONFIG))
    return path


@pytest.fixture(scope="module")
def masks() -> dict[str, ps.PackedMask]:
    rng = np.random.default_rng(0)
    return {one.name: ps.PackedMask.from_dense(rng.random(one.shape) < 0.3) for one in catalog_layers(CONFIG)}


@pytest.fixture(scope="module")
def folder(masks, tmp_path_factory) -> Path:
    header = ps.BundleHeader("small", "wanda", "unstructured", model_config=CONFIG)
    writer = ps.BundleWriter(tmp_path_factory.mktemp("masks") / "a", header)
    for layer in catalog_layers(CONFIG):
        writer.add(layer, masks[layer.name], "unstructured")
    return writer.finish().folder


def test_rows_are_those_of_the_very_masks(folder, masks):
    gpu = load_gpu("rtx-4090")
    rows = ps.inference(folder, **MACKO, operations=True).frame
    decode, prefill = (rows[rows["phase"] == phase].set_index("role") for phase in ("decode", "prefill"))
    for role in ("q", "k", "v", "o", "gate", "up", "down"):
        own = [mask for name, mask in masks.items() if name.endswith(f"{role}_proj")]
        assert len(own) == 2
        expected = 4 * sum(spmv_of_mask(gpu, mask, "macko", alone=False).latency_us[0] for mask in own)
        assert decode.loc[role, "latency_us"].sum() == pytest.approx(expected)
        packed = [float(weight_bytes("macko", shape_of_mask(mask))[0]) for mask in own]
        assert decode.loc[role, "weight_bytes"].sum() == pytest.approx(4 * sum(packed))
        size = own[0].rows * own[0].cols
        dense = linear(gpu, 8, *own[0].shape).latency_us[0] + 2 * size / gpu.memory.bandwidth_gbps / 1e3
        unpacked = 2 * dense + sum(packed) / gpu.memory.bandwidth_gbps / 1e3
        assert prefill.loc[role, "latency_us"].sum() == pytest.approx(unpacked)
        assert prefill.loc[role, "weight_bytes"].sum() == pytest.approx(sum(packed) + 2 * 2 * 2 * size)
        assert set(decode.loc[role, "kernel"]) == {"macko"}
    assert decode.loc["head", "latency_us"] == pytest.approx(
        4 * spmv(gpu, 1000, 256, 1.0, "cublas", alone=False).latency_us[0]
    )


def test_memory_and_what_it_gains(folder, masks):
    packed, dense = (ps.inference(folder, **asked).frame.iloc[0] for asked in (MACKO, MACKO | {"set": {}}))
    saved = sum(2 * one.rows * one.cols - float(weight_bytes("macko", shape_of_mask(one))[0]) for one in masks.values())
    assert (dense["weight_gib"] - packed["weight_gib"]) * 2**30 == pytest.approx(saved)
    assert (dense["settings"], packed["settings"]) == ("", 'kernel="macko"')
    assert dense["verdict"] == "same kernels" != packed["verdict"]


def test_whole_matrices_at_one_token_need_no_key(config):
    """By cuBLAS as it was measured there; two sequences take its GEMM."""
    gpu = load_gpu("rtx-4090")
    for batch, expected in (
        (1, spmv(gpu, 256, 512, 1.0, "cublas", alone=False)), (2, linear(gpu, 2, 256, 512)),
    ):  # fmt: skip
        rows = ps.inference(config, on="rtx-4090", batch=batch, prompt=8, generate=5, operations=True).frame
        down = rows[(rows["role"] == "down") & (rows["phase"] == "decode")].iloc[0]
        assert down["latency_us"] == pytest.approx(2 * 4 * expected.latency_us[0])


def test_treatments_are_the_expected_bytes(config):
    rows = ps.inference(config, **MACKO, treat=["dense", "unstructured-70"], operations=True).frame
    got = rows[(rows["role"] == "gate") & (rows["phase"] == "decode")].set_index("method")["latency_us"]
    gpu = load_gpu("rtx-4090")
    for method, kernel, density in (("dense", "cublas", 1.0), ("unstructured-70", "macko", 0.3)):
        assert got[method] == pytest.approx(2 * 4 * spmv(gpu, 512, 256, density, kernel, alone=False).latency_us[0])


def test_what_has_no_such_kernel(folder, config):
    rows = ps.inference(folder, **MACKO | {"batch": [1, 2]}).frame
    assert rows["feasible"].tolist() == [True, False]
    assert rows["reason"][1] == "`kernel=macko` is for one sequence, not 2; leave it out"
    for changed, said in (
        ({"on": ["rtx-4090", "a100-sxm"]}, "measured on rtx-4090 alone"),
        ({"set": {"kernel": "flash-llm"}}, "macko, csr, cublas"),
        ({"dtype": "int8"}, "is for fp16 and bf16, not for dtype = int8"),
    ):
        with pytest.raises(ps.UserError, match=said):
            ps.inference(folder, **MACKO | changed)


@pytest.mark.skipif(not RATES.exists(), reason="the measurements are not here")
def test_published_rates_and_memory():
    """Llama-2-7B, none of whose whole rows was fitted; memory beside the reserve."""
    for row in pd.read_csv(RATES).itertuples():
        treated = dict(treat=f"unstructured-{100 - 100 * row.density:.0f}")
        got = ps.inference("llama-2-7b", **MACKO | {"generate": 100}, **treated).frame.iloc[0]
        assert 1e3 / got["decode_ms_per_token"] == pytest.approx(row.sparse_tokens_per_s, rel=0.08)
        assert (got["memory_gib"] - 3.5) * 2**30 == pytest.approx(1e9 * row.sparse_peak_gb, rel=0.04)
