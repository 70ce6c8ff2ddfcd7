"""Decoders as if they had been pruned: sizes worked out by hand."""

import pytest

from workloads.counts import Elements
from workloads.decoder.memory import weight_bytes
from workloads.decoder.read import read_decoder
from workloads.decoder.treated import Change, left, treated
from workloads.errors import NotForThisModel
from workloads.operations.gemm import BITMAP
from workloads.patterns import NofM

LLAMA_3_8B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
}  # fmt: skip
SMALL = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100,
}  # fmt: skip


def shapes(decoder) -> dict[str, tuple[int, int]]:
    return {matrix.role: (matrix.out_features, matrix.in_features) for matrix in decoder.blocks[0].matrices}


def test_a_quarter_of_llama_3_8b():
    """6 of 8 kv groups with 24 of 32 heads, 10,752 = 84 x 128 of 14,336 neurons."""
    made = treated(read_decoder(LLAMA_3_8B), Change(kv_share=0.25, ffn_share=0.25))
    assert shapes(made) == {
        "q": (3072, 4096), "k": (768, 4096), "v": (768, 4096), "o": (4096, 3072),
        "gate": (10752, 4096), "up": (10752, 4096), "down": (4096, 10752),
    }  # fmt: skip
    attention = made.blocks[0].attention
    assert (attention.heads, attention.kv_heads, attention.cached_size) == (24, 6, 6 * 256)
    assert made.block_parameters == 32 * (4096 * (2 * 3072 + 2 * 768 + 3 * 10752) + 2 * 4096)


@pytest.mark.parametrize(
    ("units", "share", "multiple", "stays"),
    [(11008, 0.25, 128, 8320), (14336, 0.25, 128, 10752), (8, 0.3, 1, 6), (2, 0.75, 1, 1), (96, 0.99, 32, 32)],
)
def test_counts_are_the_nearest_multiple(units, share, multiple, stays):
    assert left(units, share, multiple) == stays


def test_a_fused_matrix_loses_whole_heads_and_both_halves():
    config = {**SMALL, "model_type": "phi3", "num_key_value_heads": 2}
    made = treated(read_decoder(config), Change(kv_share=0.5, ffn_share=0.5))
    assert shapes(made) == {"qkv": (4 * 16, 64), "o": (64, 32), "gate_up": (2 * 64, 64), "down": (64, 64)}


def test_neurons_of_every_expert_go():
    config = {**SMALL, "model_type": "mixtral", "num_key_value_heads": 2, "num_local_experts": 4,
              "num_experts_per_tok": 2}  # fmt: skip
    mixture = treated(read_decoder(config), Change(ffn_share=1 / 3)).blocks[0].mixture
    assert mixture is not None
    (ups, down, count) = mixture.kinds[0]
    assert (count, [up.out_features for up in ups], down.in_features) == (4, [2 * 64], 64)
    assert mixture.router.out_features == 4


def test_masks_leave_sizes_and_say_how_they_lie():
    dense = read_decoder(LLAMA_3_8B)
    half = treated(dense, Change(pattern=NofM(2, 4)))
    linears = 32 * 4096 * (2 * 4096 + 2 * 1024 + 3 * 14336)
    assert weight_bytes(dense, Elements()) - weight_bytes(half, Elements()) == linears * (16 - 8 - 1) / 8
    loose = treated(dense, Change(zeros=0.25))
    assert {(m.stored, m.nnz) for m in loose.blocks[0].matrices if m.role == "k"} == {(BITMAP, 0.75 * 1024 * 4096)}
    assert loose.head == dense.head


def test_nothing_asked_is_the_decoder_itself():
    dense = read_decoder(LLAMA_3_8B)
    assert treated(dense, Change()) == dense


def test_what_does_not_fit_a_model_is_refused():
    latent = {
        **SMALL, "model_type": "deepseek_v3", "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
        "v_head_dim": 16, "num_key_value_heads": 4,
    }  # fmt: skip
    with pytest.raises(NotForThisModel, match="no kv groups to take out"):
        treated(read_decoder(latent), Change(kv_share=0.5))
    odd = read_decoder({**SMALL, "model_type": "llama", "intermediate_size": 98})
    with pytest.raises(NotForThisModel, match="2:4 does not divide the 98 inputs of down"):
        treated(odd, Change(pattern=NofM(2, 4)))
