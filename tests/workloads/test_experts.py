"""Which matrices are an expert's, and what configs of many families say of them."""

import json

import pytest

from checkpoints.expert_defaults import completed
from workloads.experts import Experts, expert_of, experts_of

NAMES = {
    "model.layers.0.mlp.experts.down_proj.3": 3,
    "model.layers.0.mlp.experts.gate_up_proj.11": 11,
    "model.layers.10.block_sparse_moe.experts.7.w1": 7,
    "model.layers.2.block_sparse_moe.input_linear.weight.5": 5,
    "model.layers.2.mlp.shared_experts.down_proj": None,
    "model.layers.2.mlp.shared_experts.0.down_proj": None,
    "model.layers.2.mlp.shared_expert.up_proj": None,
    "model.layers.2.mlp.down_proj": None,
    "model.layers.2.self_attn.q_proj": None,
    "transformer.h.0.mlp.0": None,
}

CONFIGS = {
    "mixtral": ({"num_local_experts": 8, "num_experts_per_tok": 2}, Experts(8, 2)),
    "qwen3_moe": ({"num_experts": 128, "num_experts_per_tok": 8}, Experts(128, 8)),
    "deepseek_v3": ({"n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8, "topk_group": 4},
                    Experts(256, 8)),
    "gpt_oss": ({"num_local_experts": 32, "experts_per_token": 4, "num_experts_per_tok": 4}, Experts(32, 4)),
    "dbrx": ({"ffn_config": {"moe_num_experts": 16, "moe_top_k": 4}}, Experts(16, 4)),
    "ernie": ({"moe_num_experts": 64, "moe_k": 6}, Experts(64, 6)),
    "hunyuan": ({"num_experts": 64, "moe_topk": [8, 8]}, Experts(64, 8)),
    "llama4": ({"text_config": {"num_local_experts": 16, "num_experts_per_tok": 1}, "vision_config": {"num_experts": 4,
                "num_experts_per_tok": 4}}, Experts(16, 1)),
    "longcat": ({"n_routed_experts": 512, "zero_expert_num": 256, "moe_topk": 12}, Experts(768, 12)),
    "more asked than there are": ({"num_experts": 4, "num_experts_per_tok": 9}, Experts(4, 4)),
    "jamba's dense sibling": ({"num_experts": 1, "num_experts_per_tok": 1}, None),
    "dense": ({"hidden_size": 64}, None),
    "nothing stored": ({}, None),
    "no numbers": ({"num_experts": "8", "num_experts_per_tok": True}, None),
    "unknown family": ({"model_type": "no-such-family", "num_experts": 8}, None),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_expert_of_a_matrix(name):
    assert expert_of(name) == NAMES[name]


@pytest.mark.parametrize("name", CONFIGS)
def test_what_a_config_says(name):
    config, expected = CONFIGS[name]
    assert experts_of(json.loads(json.dumps(config)), 0) == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("mixtral", Experts(8, 2)), ("olmoe", Experts(64, 8)), ("phimoe", Experts(16, 2)), ("llama", None)],
)
def test_a_family_s_own_defaults(kind, expected):
    """Published: Mixtral 8x7B 2 of 8, OLMoE 8 of 64, Phi-3.5-MoE 2 of 16."""
    assert experts_of({"model_type": kind}, 0) is None
    assert experts_of(completed({"model_type": kind}), 0) == expected
    assert completed({"model_type": "no-such-family"}) == {"model_type": "no-such-family"}
