"""Dimensions from configs against transformers' own models: parameters, matrices, FLOP of products, KV cache."""

import pytest
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig

from checkpoints.decoder_traits import skeleton_decoder
from checkpoints.decoders import decoder_of
from checkpoints.discovery import meta_model
from validation.conformance import tiny_models
from validation.conformance.tiny_models import GLU, VOCAB, build, token_ids
from workloads.counts import Elements
from workloads.decoder.accounting import account
from workloads.decoder.families import FAMILIES
from workloads.decoder.layout import EAGER
from workloads.decoder.memory import kv_bytes
from workloads.decoder.read import knows, read_decoder
from workloads.errors import UserError
from workloads.operations.causal import CausalAttention, LatentAttention
from workloads.operations.expert_ffn import ExpertFfn
from workloads.operations.gemm import Gemm
from workloads.phases import decode, prefill

LATENT = dict(
    kv_lora_rank=16, q_lora_rank=24, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8, n_routed_experts=4,
    num_experts_per_tok=2, moe_intermediate_size=24, n_shared_experts=2, first_k_dense_replace=1, n_group=1,
    topk_group=1, num_key_value_heads=4,
)  # fmt: skip
MORE = {
    "gemma": ("gemma", GLU | {"head_dim": 8}),
    "granite": ("granite", GLU),
    "stablelm": ("stablelm", GLU | {"qk_layernorm": True, "use_qkv_bias": True}),
    "stablelm-parallel": ("stablelm", GLU | {"use_parallel_residual": True}),
    "cohere": ("cohere", GLU | {"use_qk_norm": True}),
    "cohere2": ("cohere2", GLU | {"head_dim": 8, "sliding_window": 4}),
    "olmo": ("olmo", GLU),
    "olmo2": ("olmo2", GLU),
    "olmo3": ("olmo3", GLU | {"sliding_window": 4}),
    "falcon-7b": ("falcon", GLU | {"new_decoder_architecture": False, "multi_query": True}),
    "gpt_neox-sequential": ("gpt_neox", GLU | {"use_parallel_residual": False}),
    "deepseek_v2": ("deepseek_v2", GLU | LATENT | {"q_lora_rank": None}),
    "deepseek_v3": ("deepseek_v3", GLU | LATENT),
}
KNOWN = {name: model for name, model in tiny_models.FAMILIES.items() if model[0] in FAMILIES} | MORE
TOWERS = ("gemma3", "llava")
NEW = ("phi", "gptj", "qwen2_5_vl", "qwen3_vl")  # no line in the table
TABLE_ALONE = ("gpt_neox", "falcon-alibi", "gpt_neox-sequential", "falcon-7b", "stablelm")  # words of their own
STRANGE = ("mamba", "jamba", "zamba2", "falcon_h1", "llama4_text")


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(tiny_models, "FAMILIES", tiny_models.FAMILIES | MORE)


def config_of(name: str) -> dict:
    kind, values = KNOWN.get(name) or tiny_models.FAMILIES[name]
    return {"model_type": kind, "vocab_size": VOCAB, **values}


@pytest.mark.parametrize("name", [name for name in KNOWN if name not in TOWERS])
def test_parameters_of_tiny_models(name):
    config = config_of(name)
    expected = sum(parameter.numel() for parameter in meta_model(config).parameters())
    assert read_decoder(config).parameters == expected
    completed = AutoConfig.for_model(config.pop("model_type"), **config).to_dict()
    assert read_decoder(completed).parameters == expected


@pytest.mark.parametrize("kind", [kind for kind in FAMILIES if kind not in ("gemma3", "deepseek_v3")])
def test_parameters_of_a_familys_usual_sizes(kind):
    """transformers' default config of each family; and with nothing said but sizes, where published configs do so."""
    extra = {"num_experts_per_tok": 6} if kind == "deepseek_v2" else {}
    config = AutoConfig.for_model(kind, num_hidden_layers=3, **extra)
    expected = sum(parameter.numel() for parameter in meta_model(config).parameters())
    assert read_decoder(config.to_dict()).parameters == expected


def test_a_sparse_gemma_3_config():
    """As published ones are: heads, head size and vocabulary are the family's."""
    text = {"model_type": "gemma3_text", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 7}
    decoder = read_decoder({"model_type": "gemma3", "text_config": text | {"sliding_window": 512}, "vision_config": {}})
    assert decoder.parameters == sum(parameter.numel() for parameter in meta_model(text).parameters())
    windows = [block.attention.window for block in decoder.blocks]
    assert windows == [512] * 5 + [None, 512]


@pytest.mark.parametrize("name", [name for name in KNOWN if name not in TOWERS])
def test_flop_of_products(name, tiny):
    """Against what PyTorch counts of transformers' forward: a prefill, and a decode step on its cache. Latent attention
    decodes otherwise here (absorbed), so of that prefill alone."""
    model = build(name)
    model.config._attn_implementation, model.config._experts_implementation = "eager", "eager"
    decoder = read_decoder(model.config.to_dict())
    ids = token_ids(2, 12)
    with FlopCounterMode(display=False) as counter:
        cache = model(ids, use_cache=True).past_key_values
    expected = products(decoder, prefill(2, 12), all_logits=True)
    assert counter.get_total_flops() == expected
    if decoder.blocks[0].attention.latent is None:
        with FlopCounterMode(display=False) as counter:
            model(ids[:, :1], past_key_values=cache, use_cache=True)
        assert counter.get_total_flops() == products(decoder, decode(2, 13))


def products(decoder, phase, all_logits=False):
    """Of matrices, experts' too, and of attention that computes every score."""
    total = 0
    for row in account(decoder, phase, fusion=EAGER, all_logits=all_logits):
        one = row.operation
        if isinstance(one, Gemm | CausalAttention | LatentAttention):
            total += row.total.flop
        elif isinstance(one, ExpertFfn):
            ((ups, down, _),) = one.kinds
            weights = down.n_weights + sum(up.n_weights for up in ups)
            total += 2 * phase.tokens * one.experts.per_token * weights * row.executions
    return total


@pytest.mark.parametrize("name", ["llama", "gemma2", "qwen3", "mixtral", "deepseek_v3"])
def test_kv_cache(name, tiny):
    """Elements in transformers' cache after 3 tokens, which no window holds back."""
    model = build(name)
    cache = model(token_ids(2, 3), use_cache=True).past_key_values
    held = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    assert 2 * kv_bytes(decoder_of(config_of(name)), 3, Elements(kv_bits=8)) == held


@pytest.mark.parametrize("name", [*tiny_models.FAMILIES, *MORE])
def test_seen_in_the_skeleton(name):
    """What a family's model shows is what the table says of it; what is not understood is refused in one line."""
    config = config_of(name)
    if name in STRANGE:
        with pytest.raises(UserError, match=r"is not known|cannot be counted"):
            skeleton_decoder(config)
    elif name in NEW:
        assert not knows(config) or name in TOWERS
        assert skeleton_decoder(config).parameters == text_parameters(config)
    elif name not in TABLE_ALONE:
        assert skeleton_decoder(config).block_parameters == read_decoder(config).block_parameters


def text_parameters(config: dict) -> int:
    model = meta_model(config)
    modules = [model.get_decoder() or model, model.get_output_embeddings()]
    return sum({id(p): p.numel() for module in modules for p in module.parameters()}.values())


@pytest.mark.parametrize("name", [name for name in KNOWN if name in ("llama", "gemma2", "opt", "phi3", "qwen2_moe")])
def test_the_skeleton_shows_the_same_blocks(name):
    assert skeleton_decoder(config_of(name)) == read_decoder(config_of(name))


@pytest.mark.parametrize("name", ["bert", "t5", "vit"])
def test_encoders(name):
    kind, values = tiny_models.ENCODING[name]
    with pytest.raises(UserError, match="operations are counted of causal language models"):
        decoder_of({"model_type": kind, **values})


BAD = [
    ({"hidden_size": None}, "has no hidden_size"),
    ({"num_attention_heads": 3, "num_key_value_heads": 3}, "3 heads do not divide 32"),
    ({"num_key_value_heads": 3}, "4 heads share 3 keys"),
    ({"num_hidden_layers": "two"}, "is no whole number"),
    ({"intermediate_size": -1}, "is no whole number"),
    ({"vocab_size": True}, "is no whole number"),
    ({"num_hidden_layers": 10**9}, "at most 4,096"),
    ({"model_type": "mixtral", "num_local_experts": 4}, "how many see a token"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_configs_that_leave_something_open(change, message):
    with pytest.raises(UserError, match=message) as told:
        read_decoder({"model_type": "llama", "vocab_size": VOCAB, **GLU, **change})
    assert "\n" not in str(told.value)


def test_unknown_family():
    with pytest.raises(UserError, match="what its blocks compute is not known; known: bloom"):
        read_decoder({"model_type": "perceiver"})
