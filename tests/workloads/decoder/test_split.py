"""One GPU's share of a decoder: shares add up to the whole, and what is summed between GPUs."""

import pytest

from tests.workloads.decoder.decoders import SMALL, catalog, small
from workloads.counts import Elements
from workloads.decoder.accounting import account, total
from workloads.decoder.memory import kv_bytes, weight_bytes
from workloads.decoder.read import read_decoder
from workloads.decoder.split import split
from workloads.errors import UserError
from workloads.phases import decode, prefill

SPLIT = ("qkv", "attention", "o", "gate_up", "activation", "down", "head", "kv_write")
EXPERTS = SMALL | {"model_type": "mixtral", "num_local_experts": 6, "num_experts_per_tok": 2}


@pytest.mark.parametrize("phase", [prefill(2, 100), decode(3, 500)])
@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_shares_add_up(phase, ranks):
    decoder = catalog("llama-2-70b")
    whole = {row.operation.role: row.total for row in account(decoder, phase)}
    share = {row.operation.role: row.total for row in account(split(decoder, ranks), phase)}
    for role in SPLIT:
        assert ranks * share[role].flop == pytest.approx(whole[role].flop)
        assert ranks * share[role].bytes_weight == pytest.approx(whole[role].bytes_weight)
        assert ranks * share[role].bytes_kv == pytest.approx(whole[role].bytes_kv)
    assert share["add_norm"] == whole["add_norm"]
    assert ranks * kv_bytes(split(decoder, ranks), 9, Elements()) == kv_bytes(decoder, 9, Elements())
    assert ranks * split(decoder, ranks).blocks[0].matrix("q").n_weights == decoder.blocks[0].matrix("q").n_weights


def test_two_sums_a_layer_and_one_for_the_embedding():
    rows = [
        row for row in account(split(catalog("llama-2-70b"), 8), prefill(2, 100)) if row.operation.role == "all_reduce"
    ]
    assert sum(row.executions for row in rows) == 2 * 80 + 1
    assert sum(row.total.bytes_link for row in rows) == 161 * 200 * 8192 * 2
    assert total(account(catalog("llama-2-70b"), prefill(2, 100))).bytes_link == 0


def test_kv_heads_fewer_than_gpus_are_kept_by_several():
    share = split(small(), 8)
    assert (share.blocks[0].attention.heads, share.blocks[0].attention.kv_heads) == (1, 1)
    assert share.blocks[0].matrix("k").out_features == 8
    assert kv_bytes(share, 1, Elements()) == kv_bytes(small(), 1, Elements()) / 2


def test_experts_are_divided_themselves():
    share = split(read_decoder(EXPERTS), 2)
    ((ups, down, number),) = share.blocks[0].mixture.kinds
    assert (ups[0].out_features, down.in_features, number) == (96, 48, 6)
    assert share.blocks[0].mixture.router == read_decoder(EXPERTS).blocks[0].mixture.router
    assert weight_bytes(share, Elements()) < weight_bytes(read_decoder(EXPERTS), Elements())


def test_a_vocabulary_is_filled_up():
    assert split(small(vocab_size=101), 4).head.out_features == 26


@pytest.mark.parametrize(
    ("changes", "ranks", "message"),
    [
        ({}, 0, "at least 1"),
        ({}, 3, "8 heads cannot be divided among 3 GPUs"),
        ({"num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 8}, 2, "3 kv heads cannot be divided"),
        ({"intermediate_size": 90}, 4, "90 outputs of gate cannot be divided among 4 GPUs"),
    ],
)
def test_what_does_not_divide(changes, ranks, message):
    with pytest.raises(UserError, match=message):
        split(small(**changes), ranks)


def test_a_share_is_not_shared_again():
    with pytest.raises(UserError, match="one GPU's share already"):
        split(split(small(), 2), 2)
