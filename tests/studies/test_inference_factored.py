"""Whole models with matrices that are products of factors: sums, and layers as simulate has them."""

from pathlib import Path

import numpy as np
import pytest

import prunesim as ps
from checkpoints.catalog_layers import catalog_layers
from simulator.gpu import load_gpu
from simulator.gpu.operators import linear
from workloads.factors import Factors
from workloads.patterns import DENSE, FACTORED

CONFIG = {
    "model_type": "llama", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000,
}  # fmt: skip
OF = {
    "q": Factors((1, 64, 256), (1, 256, 64)),
    "up": Factors((4, 16, 64), (1, 512, 64)),
    "down": Factors((2, 32, 256), (2, 128, 32)),
}
SMALL = dict(prompt=16, generate=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    header = ps.BundleHeader("small", "lowrank", FACTORED, model_config=CONFIG)
    writer = ps.BundleWriter(tmp_path_factory.mktemp("factored") / "a", header)
    for layer in catalog_layers(CONFIG):
        if factors := OF.get(layer.role):
            pair = (("first", factors.first), ("second", factors.second))
            writer.add_factored(layer, factors, {f"{name}-float16": np.zeros(size, "f2") for name, size in pair})
        else:
            writer.add(layer, ps.PackedMask.dense(*layer.shape), DENSE)
    return writer.finish().folder


def test_each_block_is_a_gemm_of_its_own(folder):
    """k, v and gate are not joined with what became a product, and its weights alone are read and kept."""
    gpu = load_gpu("h100-sxm")
    rows = ps.inference(folder, on="h100-sxm", **SMALL, operations=True).frame
    first = rows[rows["phase"] == "prefill"]
    for role, factors in OF.items():
        both = (factors.first, factors.second)
        found = first[first["role"] == role]
        assert found["executions"].tolist() == [2 * blocks for blocks, _, _ in both]
        each = [2 * blocks * linear(gpu, 16, rows, cols).latency_us[0] for blocks, rows, cols in both]
        assert found["latency_us"].tolist() == pytest.approx(each)
        assert found["weight_bytes"].sum() == 2 * 2 * factors.n_weights
        assert found["flop"].sum() == 2 * 2 * 16 * factors.n_weights
    row = ps.inference(folder, on="h100-sxm", **SMALL).frame.iloc[0]
    whole = (row["prefill_ms"] + 4 * row["decode_ms_per_token"]) * 1e3
    assert rows["latency_us"].sum() == pytest.approx(whole)
    shapes = {layer.role: layer.shape for layer in catalog_layers(CONFIG)}
    saved = 2 * sum(shapes[role][0] * shapes[role][1] - factors.n_weights for role, factors in OF.items())
    (plain,) = ps.inference(dense_of(folder), on="h100-sxm", **SMALL).frame["weight_gib"]
    assert (plain - row["weight_gib"]) * 2**30 == pytest.approx(2 * saved)


def dense_of(folder: Path) -> Path:
    writer = ps.BundleWriter(folder.parent / "dense", ps.BundleHeader("small", "none", DENSE, model_config=CONFIG))
    for layer in catalog_layers(CONFIG):
        writer.add(layer, ps.PackedMask.dense(*layer.shape), DENSE)
    return writer.finish().folder


@pytest.mark.parametrize("on", ["systolic", "vitcod"])
def test_layers_are_those_of_simulate(folder, on):
    rows = ps.inference(folder, on=on, **SMALL, operations=True).frame
    layers = ps.simulate(folder, on=on, phase="prefill", prompt=16).frame
    for role in OF:
        found = rows.loc[(rows["role"] == role) & (rows["phase"] == "prefill"), "latency_us"].sum()
        assert found == pytest.approx(layers.loc[layers["role"] == role, "latency_us"].sum(), rel=1e-3)
    row = ps.inference(folder, on=on, **SMALL).frame.iloc[0]
    assert row["speedup"] > 1


def test_they_are_not_divided(folder):
    row = ps.inference(folder, on="h100-sxm", tensor_parallel=2, **SMALL).frame.iloc[0]
    assert not row["feasible"]
    assert "is a product of factors, which is not divided among 2 GPUs" in row["reason"]
