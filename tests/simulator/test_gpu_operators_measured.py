"""Operators against the measured kernels that their parameters were fitted to: the fit is what the presets say, and the
stated bands hold. The measurements are not part of this repository."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simulator.gpu import load_gpu
from simulator.gpu.operators import all_reduce, decode, linear, moe, prefill

DATA = Path(__file__).parents[3] / "shared" / "data" / "performance"
CARDS = {"A100": "a100-sxm", "H100": "h100-sxm"}
HEADS = ("heads", "kv_heads", "head_dim", "window")

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the measurements are not here")


def rows_of(name, card):
    rows = pd.read_csv(DATA / f"{name}.csv")
    return rows[rows["gpu"].str.startswith(card)]


def arrays(rows, *names):
    return [rows[name].to_numpy(dtype=np.int64) for name in names]


def agrees(timing, rows, median, within=0.85):
    """Median error in share, and how many lie in the stated band (nine of ten of points that the fit was not shown)."""
    errors = np.abs(np.log(timing.latency_us / rows["latency_us"].to_numpy()))
    assert np.median(np.expm1(errors)) < median
    assert np.mean(errors <= np.log1p(timing.latency_error_p90)) >= within
    assert (timing.extrapolated == "").all()


@pytest.mark.parametrize("card", CARDS)
def test_attention(card):
    gpu = load_gpu(CARDS[card])
    for kernel, rows in rows_of("attention_decode", card).groupby("kernel"):
        timing = decode(gpu, *arrays(rows, "batch", "kv_tokens", *HEADS), kernel=kernel)
        agrees(timing, rows, 0.12 if "sarathi" in kernel else 0.06)
    for kernel, rows in rows_of("attention_prefill", card).groupby("kernel"):
        timing = prefill(gpu, *arrays(rows, "batch", "q_tokens", "kv_tokens", *HEADS), kernel=kernel)
        agrees(timing, rows, 0.12 if "sarathi" in kernel else 0.06)


@pytest.mark.parametrize("card", CARDS)
def test_linears_experts_and_all_reduce(card):
    gpu = load_gpu(CARDS[card])
    rows = rows_of("gemm_dense", card)
    agrees(linear(gpu, *arrays(rows, "m", "n", "k"), kernel="torch"), rows, 0.06)
    rows = rows_of("moe_ffn", card)
    for routing in ("balanced", "power_law"):
        some = rows[rows["routing"].str.startswith(routing)]
        if len(some):
            sizes = arrays(some, "tokens", "hidden", "expert_ffn", "experts", "top_k")
            agrees(moe(gpu, *sizes, routing), some, 0.09, 0.8)
    for kernel, some in rows_of("allreduce", card).groupby("kernel"):
        if "sarathi" not in kernel:
            agrees(all_reduce(gpu, *arrays(some, "gpus", "message_bytes"), kernel), some, 0.1)
