"""Parameters, KV bytes and FLOP of published models, and each operation against the formula written out by hand."""

import pytest

from checkpoints.catalog import catalog_names
from tests.workloads.decoder.decoders import catalog, small
from workloads.counts import Counts, Elements
from workloads.decoder.accounting import account, total
from workloads.decoder.layout import EAGER
from workloads.decoder.memory import kv_bytes
from workloads.operations.gemm import Gemm
from workloads.phases import decode, generate, prefill

PUBLISHED = {  # parameters of the models' cards and weight files, as tests/checkpoints/test_catalog.py has them
    "llama-7b": 6_738_415_616, "llama-13b": 13_015_864_320, "llama-30b": 32_528_943_616, "llama-65b": 65_285_660_672,
    "llama-2-7b": 6_738_415_616, "llama-2-13b": 13_015_864_320, "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248, "llama-3-70b": 70_553_706_496,
    "llama-3.2-1b": 1_235_814_400, "llama-3.2-3b": 3_212_749_824, "opt-175b": 174_604_468_224,
    "qwen2.5-7b": 7_615_616_512,
}  # fmt: skip


@pytest.mark.parametrize("name", catalog_names())
def test_parameters(name):
    assert catalog(name).parameters == PUBLISHED[name]


@pytest.mark.parametrize(
    ("name", "matrices", "table", "kv"),
    [
        ("llama-7b", 6_476_005_376, 131_072_000, 524_288),
        ("llama-3-8b", 6_979_321_856, 525_336_576, 131_072),
        ("llama-2-70b", 68_451_041_280, 262_144_000, 327_680),
    ],
)
def test_parts(name, matrices, table, kv):
    """By hand: layers x (h (H + 2G) d + H d h + 3 h f), V h, and 2 bytes x 2 G d a layer."""
    decoder = catalog(name)
    assert sum(matrix.n_weights for block in decoder.blocks for matrix in block.matrices) == matrices
    assert decoder.embedding_parameters == decoder.head_parameters == table
    assert kv_bytes(decoder, 1, Elements()) == kv


def by_name(decoder, phase, elements=None, **settings):
    """Of the first block, and outside."""
    rows = account(decoder, phase, elements or Elements(), **settings)
    return {row.operation.name: row.total * (1 / row.executions) for row in rows}


@pytest.mark.parametrize("phase", [prefill(3, 20), prefill(3, 20, past=7), decode(3, 28)])
def test_every_operation(phase):
    """The table of docs/inference.md for a LLaMA of h 64, f 96, 8 heads of 8, 2 kv heads, 100 tokens; each width its
    own number of bytes."""
    h, f, H, G, d, V = 64, 96, 8, 2, 8, 100
    w, x, kv, B, q, c = 4 / 8, 1, 3, phase.batch, phase.new, phase.past
    T = B * q
    scales = (16 + 4) / 8  # bytes a row, of its scale and zero point
    vis = B * sum(c + t for t in range(1, q + 1))
    elements = Elements(weight_bits=4, float_bits=16, activation_bits=8, kv_bits=24)
    found = by_name(small(), phase, elements)
    qkv = (H + 2 * G) * d
    expected = {
        "embedding": Counts(0, T * h * 2, T * h * x),
        "blocks.0.attention_norm": Counts(4 * T * h, 2 * h, 2 * T * h * x),
        "blocks.0.qkv": Counts(2 * T * h * qkv, qkv * (h * w + scales), T * (h + qkv) * x),
        "blocks.0.rotary": Counts(6 * T * (H + G) * d, 0, (2 * T * (H + G) * d + T * d) * x),
        "blocks.0.kv_write": Counts(0, 0, 0, 2 * T * G * d * kv),
        "blocks.0.attention": Counts(4 * d * H * vis, 0, 2 * B * q * H * d * x, 2 * B * (c + q) * G * d * kv),
        "blocks.0.o": Counts(2 * T * H * d * h, h * (H * d * w + scales), T * (H * d + h) * x),
        "blocks.0.ffn_norm": Counts(5 * T * h, 2 * h, 4 * T * h * x),
        "blocks.0.gate_up": Counts(4 * T * h * f, 2 * f * (h * w + scales), T * (h + 2 * f) * x),
        "blocks.0.activation": Counts(5 * T * f, 0, 3 * T * f * x),
        "blocks.0.down": Counts(2 * T * f * h, h * (f * w + scales), T * (f + h) * x),
        "blocks.1.attention_norm": Counts(5 * T * h, 2 * h, 4 * T * h * x),
        "norm": Counts(5 * T * h, 2 * h, 4 * T * h * x),
        "head": Counts(2 * B * h * V, h * V * 2, B * (h + V) * x),
    }
    assert list(found) == list(expected)
    for name, counts in expected.items():
        for part in ("flop", "bytes_weight", "bytes_act", "bytes_kv", "bytes_link"):
            assert getattr(found[name], part) == pytest.approx(getattr(counts, part), rel=1e-12), (name, part)


def test_eager():
    """Scores are written and read, twice each, additions stand alone, and every matrix is a GEMM."""
    T, h, pairs = 40, 64, 2 * 20 * 20
    found = by_name(small(), prefill(2, 20), fusion=EAGER)
    assert found["blocks.0.softmax"] == Counts(5 * 8 * pairs, 0, 2 * 8 * pairs * 2)
    assert found["blocks.0.attention"].flop == 4 * 8 * 8 * pairs
    assert found["blocks.0.attention"].bytes_act == (2 * T * 64 + 2 * 8 * pairs) * 2
    assert found["blocks.0.attention.add"] == Counts(T * h, 0, 3 * T * h * 2)
    assert found["blocks.0.k"] == Counts(2 * T * h * 16, h * 16 * 2, T * (h + 16) * 2)
    rows = account(small(), prefill(2, 20), fusion=EAGER)
    assert sum(row.executions for row in rows if row.operation.role == "add") == 2 * 3
    assert sum(row.executions for row in rows if isinstance(row.operation, Gemm)) == 7 * 3 + 1


def test_prefill_flop_of_the_rule_of_thumb():
    """2 P tokens, 2 L B S^2 H d of causal attention, and the head: what is left is elementwise, below a percent."""
    decoder, seq = catalog("llama-7b"), 2048
    rule = 2 * 6_476_005_376 * seq + 2 * 32 * seq**2 * 4096 + 2 * 4096 * 32_000
    assert rule < total(account(decoder, prefill(1, seq))).flop < 1.01 * rule


def test_blocks_that_do_the_same_are_counted_together():
    """80 blocks are no more rows than one, so that a large model costs no more than a small one."""
    rows = account(catalog("llama-2-70b"), generate(8, 2048, 256))
    assert len(rows) < 40
    assert sum(row.executions for row in rows if row.operation.role == "down") == 80 * 256
