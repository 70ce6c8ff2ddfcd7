"""Memory: stored bytes as prunesim formats has them, KV cache, what fits, and by bisection what just fits."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.storage import WHOLE, layer_rows
from tests.workloads.decoder.decoders import SMALL, catalog, small
from workloads.bundle import BundleHeader
from workloads.counts import Elements
from workloads.decoder.memory import (
    GIB,
    MOST,
    Budget,
    activation_bytes,
    kv_bytes,
    largest_batch,
    largest_context,
    memory,
    weight_bytes,
)
from workloads.decoder.read import read_decoder
from workloads.errors import UserError
from workloads.mask import PackedMask
from workloads.operations import Linear, Weights
from workloads.operations.gemm import Matrix


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 40), runs=st.integers(1, 12), bits=st.sampled_from([3, 4, 8, 16]),
    group=st.sampled_from([None, 4, 16]), stored=st.sampled_from(["dense", "bitmap", "2:4", "1:4"]),
)  # fmt: skip
def test_stored_bytes_are_those_of_the_formats(rows, runs, bits, group, stored):
    """Against the encoders that read masks, each matrix compressed whole."""
    cols = 4 * runs
    kept = np.zeros((rows, cols), dtype=bool)
    kept[:, ::4] = True
    mask = PackedMask.from_dense(kept)
    quantized = bits if bits < 16 else None
    weights = Weights("unstructured", mask.nnz, "", lambda: mask, quantized, group)
    linear = Linear("l", "q", 0, rows, cols, weights)
    (row,) = layer_rows(BundleHeader("m", "x"), linear, [stored], (WHOLE, WHOLE), 16)
    nnz = mask.nnz if stored == "bitmap" else None
    matrix = Matrix("q", rows, cols, stored=stored, nnz=nnz, weight_bits=quantized, group_size=group)
    found = matrix.stored_bytes(Elements())
    assert 0 <= row["total_bytes"] - found < 3  # each of the three parts is rounded up to whole bytes


def test_weights_by_hand():
    """OPT-175B and LLaMA-2-7B at 16 bits; the latter's linears at 4 bits and groups of 128, head and table at 16."""
    assert weight_bytes(catalog("opt-175b"), Elements()) == 2 * 174_604_468_224
    decoder = catalog("llama-2-7b")
    assert weight_bytes(decoder, Elements()) == 2 * 6_738_415_616
    linears, rest = 6_476_005_376, 6_738_415_616 - 6_476_005_376
    four = weight_bytes(decoder, Elements(weight_bits=4, group_size=128))
    assert four == linears * (4 + (16 + 4) / 128) / 8 + 2 * rest


def test_a_tied_table_is_stored_once():
    tied, untied = small(tie_word_embeddings=True), small()
    assert weight_bytes(untied, Elements()) - weight_bytes(tied, Elements()) == 100 * 64 * 2


def test_windows_keep_their_own():
    decoder = read_decoder(SMALL | {"model_type": "gemma2", "head_dim": 8, "sliding_window": 16})
    each = 2 * 2 * 8 * 2  # bytes a token: keys and values of 2 heads of 8
    assert kv_bytes(decoder, 10, Elements()) == 3 * 10 * each
    assert kv_bytes(decoder, 100, Elements()) == (16 + 100 + 16) * each
    assert kv_bytes(decoder, 100, Elements(), is_ring=False) == 300 * each
    assert kv_bytes(decoder, 100, Elements(kv_bits=8)) == (16 + 100 + 16) * each / 2


def test_activations_by_hand():
    """4,096 tokens of LLaMA-2-7B: residual and its norm, gate and up and their product; 32,000 logits of 4 bytes."""
    found = activation_bytes(catalog("llama-2-7b"), 4096, 2, Elements())
    assert found == 4096 * (2 * 4096 + 3 * 11_008) * 2 + 2 * 32_000 * 4


def test_what_fits():
    """LLaMA-2-70B: 137.95 GB of weights are too much for 80 GB, 4-bit ones fit."""
    decoder, budget = catalog("llama-2-70b"), Budget(80e9)
    assert not memory(decoder, 1, 2048, Elements(), budget).fits(80e9)
    found = memory(decoder, 1, 2048, Elements(weight_bits=4, group_size=128), budget)
    assert found.fits(80e9)
    assert found.total_bytes == found.weight_bytes + 2048 * 327_680 + found.activation_bytes + 3.5 * GIB


@pytest.mark.parametrize("name", ["llama-2-7b", "qwen2.5-7b"])
@pytest.mark.parametrize("chunk", [None, 512])
def test_the_largest_just_fits(name, chunk):
    decoder, elements, budget = catalog(name), Elements(), Budget(24e9, chunk=chunk)
    batch, context = largest_batch(decoder, 4096, elements, budget), largest_context(decoder, 2, elements, budget)
    assert batch > 0
    assert context > 0
    for fits, (n, tokens) in (
        (True, (batch, 4096)),
        (False, (batch + 1, 4096)),
        (True, (2, context)),
        (False, (2, context + 1)),
    ):
        assert memory(decoder, n, tokens, elements, budget).fits(24e9) is fits


def test_nothing_fits_and_everything_fits():
    decoder = small()
    assert largest_batch(decoder, 10, Elements(), Budget(1e6)) == 0
    assert largest_context(decoder, 1, Elements(), Budget(1e6)) == 0
    assert largest_context(decoder, 1, Elements(), Budget(math.inf)) >= MOST // 2


@pytest.mark.parametrize("bad", [(0.0,), (-1.0,), (math.nan,), (1e9, -1.0), (1e9, 0.0, 0)])
def test_impossible_budgets(bad):
    with pytest.raises(UserError, match="at least"):
        Budget(*bad)
