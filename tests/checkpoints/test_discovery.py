"""Finding blocks and linears: tiny random models of many families, counted by hand from their configs."""

from collections import Counter

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from checkpoints.catalog import catalog_config
from checkpoints.discovery import LinearRef, block_linears, discover_layers, find_blocks, meta_model, role_of
from workloads.errors import UserError
from workloads.layers import ROLES

# Sizes told apart by their value: hidden 32, feed-forward 48, 4 heads of 8, 2 kv heads -> kv width 16.
H, F, KV, L = 32, 48, 16, 2
BASE = {
    "vocab_size": 64, "hidden_size": H, "intermediate_size": F, "num_hidden_layers": L, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GPT = {
    "vocab_size": 64,
    "n_embd": H,
    "n_layer": L,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ATTENTION = {"q": (H, H), "k": (KV, H), "v": (KV, H), "o": (H, H)}
FULL = {"q": (H, H), "k": (H, H), "v": (H, H), "o": (H, H)}
GATED = {"gate": (F, H), "up": (F, H), "down": (H, F)}
EXPERTS = {"expert_gate_up": (2 * F, H), "expert_down": (H, F)}
PLAIN = {"fc1": (4 * H, H), "fc2": (H, 4 * H)}
FUSED = {"qkv": (3 * H, H), "o": (H, H)}
WIDE = {"head_dim": 16}  # heads wider than hidden / heads: q is 4 * 16 = 64
WIDE_ATTENTION = {"q": (64, H), "k": (32, H), "v": (32, H), "o": (H, 64)}
OPT = {**BASE, "ffn_dim": F, "word_embed_proj_dim": H}
MOE = {"moe_intermediate_size": F, "num_experts": 5, "num_experts_per_tok": 2, "decoder_sparse_step": 1}

# (model_type, config, shapes of one block by role, experts a block, path of the block list)
FAMILIES = [
    ("llama", BASE, ATTENTION | GATED, 0, "model.layers"),
    ("mistral", BASE, ATTENTION | GATED, 0, "model.layers"),
    ("qwen2", BASE, ATTENTION | GATED, 0, "model.layers"),
    ("qwen3", BASE | WIDE, WIDE_ATTENTION | GATED, 0, "model.layers"),
    ("gemma2", BASE | WIDE, WIDE_ATTENTION | GATED, 0, "model.layers"),
    ("gemma3_text", BASE | WIDE, WIDE_ATTENTION | GATED, 0, "model.layers"),
    ("phi3", BASE, {"qkv": (H + 2 * KV, H), "o": (H, H), "gate_up": (2 * F, H), "down": (H, F)}, 0, "model.layers"),
    ("phi", BASE, ATTENTION | {"fc1": (F, H), "fc2": (H, F)}, 0, "model.layers"),
    ("opt", OPT, FULL | {"fc1": (F, H), "fc2": (H, F)}, 0, "model.decoder.layers"),
    ("opt", OPT | {"word_embed_proj_dim": 24, "do_layer_norm_before": False},
     FULL | {"fc1": (F, H), "fc2": (H, F)}, 0, "model.decoder.layers"),
    ("gpt2", GPT, FUSED | PLAIN, 0, "transformer.h"),
    ("gptj", GPT | {"rotary_dim": 4}, FULL | PLAIN, 0, "transformer.h"),
    ("gpt_neox", BASE, FUSED | {"fc1": (F, H), "fc2": (H, F)}, 0, "gpt_neox.layers"),
    ("bloom", {"vocab_size": 64, "hidden_size": H, "n_layer": L, "n_head": 4}, FUSED | PLAIN, 0, "transformer.h"),
    ("falcon", BASE | {"new_decoder_architecture": True, "num_kv_heads": 2, "ffn_hidden_size": F},
     {"qkv": (H + 2 * KV, H), "o": (H, H), "fc1": (F, H), "fc2": (H, F)}, 0, "transformer.h"),
    ("mpt", {"vocab_size": 64, "d_model": H, "n_layers": L, "n_heads": 4, "max_seq_len": 64, "expansion_ratio": 4},
     FUSED | {"up": (4 * H, H), "down": (H, 4 * H)}, 0, "transformer.blocks"),
    ("mixtral", BASE | {"num_local_experts": 5}, ATTENTION | EXPERTS, 5, "model.layers"),
    ("qwen2_moe", BASE | MOE | {"shared_expert_intermediate_size": 40},
     ATTENTION | EXPERTS | {"shared_gate": (40, H), "shared_up": (40, H), "shared_down": (H, 40)}, 5, "model.layers"),
    ("qwen3_moe", BASE | MOE | {"head_dim": 8}, ATTENTION | EXPERTS, 5, "model.layers"),
    ("olmoe", BASE | {"num_experts": 5, "num_experts_per_tok": 2}, ATTENTION | EXPERTS, 5, "model.layers"),
    ("gpt_oss", BASE | {"num_local_experts": 5, "head_dim": 8}, ATTENTION | EXPERTS, 5, "model.layers"),
    ("llama4_text", BASE | {"num_local_experts": 5, "intermediate_size_mlp": F, "head_dim": 8},
     ATTENTION | EXPERTS | {"shared_gate": (F, H), "shared_up": (F, H), "shared_down": (H, F)}, 5, "model.layers"),
]  # fmt: skip
IDS = [f"{kind}-{index}" for index, (kind, *_rest) in enumerate(FAMILIES)]


def real_model(kind: str, config: dict) -> nn.Module:
    """A tiny model with random weights on the CPU."""
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **config), attn_implementation="eager").eval()


def refs_of(model: nn.Module) -> list[tuple[nn.Module, LinearRef]]:
    path, blocks = find_blocks(model)
    return [
        (block, ref) for number, block in enumerate(blocks) for ref in block_linears(block, f"{path}.{number}", number)
    ]


@pytest.mark.parametrize(("kind", "config", "shapes", "experts", "path"), FAMILIES, ids=IDS)
def test_layers_of_a_family(kind: str, config: dict, shapes: dict, experts: int, path: str) -> None:
    layers = discover_layers({"model_type": kind, **config})
    for block in range(L):
        here = [layer for layer in layers if layer.block == block]
        assert {layer.role: layer.shape for layer in here} == shapes
        assert Counter(layer.role for layer in here) == {
            role: experts if role.startswith("expert_") else 1 for role in shapes
        }
        assert all(layer.name.startswith(f"{path}.{block}.") for layer in here)
    assert {layer.block for layer in layers} == set(range(L))
    assert len({layer.name for layer in layers}) == len(layers)
    assert all(layer.role in ROLES for layer in layers)


@pytest.mark.parametrize(("kind", "config", "shapes", "experts", "path"), FAMILIES, ids=IDS)
def test_matrices_are_views_that_change_the_model(
    kind: str, config: dict, shapes: dict, experts: int, path: str
) -> None:
    model = real_model(kind, config)
    assert find_blocks(model)[0] == path
    storages = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    before = _last_logits(model)
    assert not torch.allclose(before[0], before[1])
    found = refs_of(model)
    assert [ref.layer for _, ref in found] == discover_layers(model.config)
    for block, ref in found:
        matrix = ref.matrix(block)
        assert tuple(matrix.shape) == ref.layer.shape
        assert matrix.untyped_storage().data_ptr() in storages
        matrix.zero_()
    for block, ref in found:
        parameter = getattr(block.get_submodule(ref.module_path), ref.parameter)
        assert parameter.count_nonzero() == 0
    # With every matrix zero a block adds constants only: what a position says no longer depends on its neighbours.
    last_logits = _last_logits(model)
    assert torch.allclose(last_logits[0], last_logits[1])


def _last_logits(model: nn.Module) -> torch.Tensor:
    """(2, vocabulary): two prompts that share their last token only."""
    with torch.no_grad():
        return model(torch.tensor([[3, 4, 5, 6], [9, 8, 7, 6]]), use_cache=False).logits[:, -1]


@pytest.mark.parametrize("kind", ["llama", "qwen2", "opt", "gpt2", "gpt_neox", "falcon", "bloom", "gptj", "phi3"])
def test_linear_and_conv1d_compute_x_times_matrix_transposed(kind: str) -> None:
    config = next(config for name, config, *_rest in FAMILIES if name == kind)
    for block, ref in refs_of(real_model(kind, config))[:7]:
        module = block.get_submodule(ref.module_path)
        assert ref.transposed == (kind == "gpt2")
        x = torch.randn(2, 3, ref.layer.in_features)
        bias = 0 if module.bias is None else module.bias
        with torch.no_grad():
            assert torch.allclose(module(x), x @ ref.matrix(block).T + bias, atol=1e-6)


@pytest.mark.parametrize("kind", ["mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss"])
def test_experts_compute_with_the_matrices_found(kind: str) -> None:
    """One token through one expert, once by the module and once by hand from the views."""
    config = next(config for name, config, *_rest in FAMILIES if name == kind)
    found = [(block, ref) for block, ref in refs_of(real_model(kind, config)) if ref.layer.block == 0]
    block = found[0][0]
    module = block.get_submodule(next(ref.module_path for _, ref in found if ref.expert is not None))
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    matrix = {ref.layer.name.partition("experts.")[2]: ref.matrix(block) for _, ref in found}
    x = torch.randn(1, H)
    with torch.no_grad():
        got = module(x, torch.tensor([[3, 1]]), torch.tensor([[1.0, 0.0]]))
        fused = x @ matrix["gate_up_proj.3"].T
        if kind == "gpt_oss":
            want = module._apply_gate(fused + module.gate_up_proj_bias[3]) @ matrix["down_proj.3"].T
            want = want + module.down_proj_bias[3]
        else:
            gate, up = fused.chunk(2, dim=-1)
            want = (nn.functional.silu(gate) * up) @ matrix["down_proj.3"].T
    assert torch.allclose(got, want, rtol=1e-4, atol=1e-4)


def test_llama_7b() -> None:
    layers = discover_layers(catalog_config("llama-7b"))
    assert len(layers) == 224
    assert sum(layer.n_weights for layer in layers) == 32 * (4 * 4096**2 + 3 * 4096 * 11008) == 6_476_005_376
    assert [layer.name for layer in layers[:2]] == [f"model.layers.0.self_attn.{name}_proj" for name in "qk"]


def test_llama_3_70b_grouped_heads() -> None:
    layers = discover_layers(catalog_config("llama-3-70b"))
    assert len(layers) == 560
    assert {layer.role: layer.shape for layer in layers}["k"] == (1024, 8192)


def test_vision_tower_bigger_than_the_text_model_is_not_picked() -> None:
    vision = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 6, "num_attention_heads": 4,
              "image_size": 28, "patch_size": 14}  # fmt: skip
    layers = discover_layers({"model_type": "gemma3", "text_config": BASE | WIDE, "vision_config": vision})
    assert {layer.role: layer.shape for layer in layers} == WIDE_ATTENTION | GATED
    assert len(layers) == 7 * L
    assert layers[0].name == "model.language_model.layers.0.self_attn.q_proj"


def test_expert_name_ends_with_its_number() -> None:
    layers = discover_layers({"model_type": "mixtral", **BASE, "num_local_experts": 5})
    assert layers[4 + 5 + 3].name == "model.layers.0.mlp.experts.down_proj.3"


class Stack(nn.Module):
    """Experts as a parameter (experts, width, width) with nothing that tells how it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.num_experts = 4
        self.up_proj = nn.Parameter(torch.zeros(4, 8, 8))


class Hidden(nn.Module):
    """Most of the weights in a form nobody knows."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.Parameter(torch.zeros(100, 8))


def test_stack_that_cannot_be_read_is_an_error_until_the_module_says() -> None:
    block = nn.ModuleDict({"a": nn.Linear(8, 8), "experts": Stack()})
    with pytest.raises(UserError, match=r"model.layers.7.experts: cannot tell .* is_transposed"):
        block_linears(block, "model.layers.7", 7)
    block["experts"].is_transposed = True
    assert [ref.transposed for ref in block_linears(block, "model.layers.7", 7)] == [False, True, True, True, True]


def test_weights_in_an_unknown_form_are_an_error_not_an_omission() -> None:
    block = nn.ModuleDict({"a": nn.Linear(8, 8), "odd": Hidden()})
    with pytest.raises(UserError, match=r"h.0: 800 weights .* odd.tables of shape \(100, 8\)"):
        block_linears(block, "h.0", 0)


def test_blocks_of_a_plain_module_and_none_at_all() -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            pair = [nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)) for _ in range(3)]
            self.inside = nn.ModuleDict({"stack": nn.ModuleList(pair), "heads": nn.ModuleList([nn.Linear(8, 999)])})

    path, blocks = find_blocks(Wrapper())
    assert (path, len(blocks)) == ("inside.stack", 3)
    with pytest.raises(UserError, match="no blocks found"):
        find_blocks(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "lama"}, "has no model_type 'lama'; did you mean 'llama'"),
        ({"model_type": "no such thing at all"}, "install a transformers that has it"),
        ({}, "has no model_type None"),
        ({"model_type": "vitmatte"}, "no model to prune for model_type 'vitmatte'"),
        ({"model_type": "llama", **BASE, "hidden_size": "many"}, "cannot build a 'llama' model: .*hidden_size"),
        ({"model_type": "llama", **BASE, "num_attention_heads": 0}, "cannot build a 'llama' model"),
    ],
)
def test_bad_configs(config: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        discover_layers(config)
    assert "\n" not in str(caught.value)


def test_config_is_left_alone_and_remote_code_is_never_run() -> None:
    config = {
        "model_type": "llama", **BASE,
        "auto_map": {"AutoModelForCausalLM": "elsewhere--modeling.Model"},
        "quantization_config": {"quant_method": "gptq", "bits": 4},
    }  # fmt: skip
    before = repr(config)
    model = meta_model(config)
    assert repr(config) == before
    assert type(model).__module__.startswith("transformers.models.llama")
    assert len(discover_layers(config)) == 7 * L


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("self_attn.q_proj", "q"), ("self_attn.qkv_proj", "qkv"), ("attn.c_attn", "qkv"), ("attn.Wqkv", "qkv"),
        ("attention.query_key_value", "qkv"), ("self_attn.out_proj", "o"), ("attn.c_proj", "o"),
        ("self_attn.dense", "o"), ("attention.dense", "o"), ("mlp.c_proj", "fc2"), ("mlp.c_fc", "fc1"),
        ("mlp.fc_in", "fc1"), ("mlp.fc_out", "fc2"), ("mlp.dense_h_to_4h", "fc1"), ("mlp.dense_4h_to_h", "fc2"),
        ("mlp.gate_up_proj", "gate_up"), ("ffn.up_proj", "up"), ("mixer.q_proj", "q"), ("fc1", "fc1"),
        ("block_sparse_moe.experts.3.w1", "expert_gate"), ("block_sparse_moe.experts.3.w2", "expert_down"),
        ("block_sparse_moe.experts.3.w3", "expert_up"), ("mlp.experts.gate_up_proj.11", "expert_gate_up"),
        ("mlp.shared_expert.up_proj", "shared_up"), ("mlp.shared_experts.down_proj", "shared_down"),
        ("model.layers.3.self_attn.v_proj", "v"), ("self_attn.gate_proj", "other"), ("mamba.out_proj", "other"),
        ("encoder.layer.0.attention.self.query", "q"), ("layer.0.attention.self.key", "k"),
        ("layer.0.attention.output.dense", "o"),
        ("layer.0.intermediate.dense", "fc1"), ("layer.0.output.dense", "fc2"),
        ("block.0.layer.0.SelfAttention.v", "v"),
        ("block.0.layer.1.EncDecAttention.o", "o"), ("layer.2.DenseReluDense.wi", "fc1"),
        ("layer.2.DenseReluDense.wi_0", "gate"),
        ("layer.2.DenseReluDense.wo", "fc2"), ("layers.0.attention.wo", "o"), ("mixer.key", "other"),
        ("pooler.dense", "other"),
        ("self_attn.kv_a_proj_with_mqa", "other"), ("mlp.experts.weird", "other"), ("", "other"), ("7", "other"),
    ],
)  # fmt: skip
def test_role_of(path: str, role: str) -> None:
    assert role_of(path) == role
