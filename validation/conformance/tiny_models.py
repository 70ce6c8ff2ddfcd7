"""Tiny random models of many families, saved as real checkpoints, and the same loaded whole by transformers alone."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from checkpoints.families import family_of

VOCAB = 64
GLU: dict[str, Any] = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
GPT = dict(n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2)
OPT = dict(hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64)
SLIDING = ["sliding_attention", "full_attention"]

EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
# Token embeddings of their own for every block.
PER_LAYER = {"head_dim": 8, "vocab_size_per_layer_input": VOCAB, "hidden_size_per_layer_input": 8, "sliding_window": 4,
             "layer_types": SLIDING, "num_kv_shared_layers": 0}  # fmt: skip

# name -> (model_type, config). Windows are shorter than the sequences of the tests (12 tokens).
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", GLU),
    "llama-tied": ("llama", GLU | {"tie_word_embeddings": True, "attention_bias": True}),
    "mistral": ("mistral", GLU | {"sliding_window": 4}),
    "qwen2": ("qwen2", GLU),
    "qwen2-window": ("qwen2", GLU | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    "qwen3": ("qwen3", GLU | {"head_dim": 8}),
    "opt": ("opt", OPT | {"word_embed_proj_dim": 32}),
    "opt-projected": ("opt", OPT | {"word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "gpt2": ("gpt2", GPT),
    "gpt_neox": ("gpt_neox", GLU),
    "gemma2": ("gemma2", GLU | {"head_dim": 8, "sliding_window": 4, "layer_types": SLIDING}),
    "gemma3_text": ("gemma3_text", GLU | {"head_dim": 8, "sliding_window": 4, "layer_types": SLIDING}),
    "phi3": ("phi3", GLU | {"sliding_window": 4}),
    "phi": ("phi", GLU),
    "bloom": ("bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "falcon": ("falcon", GLU | {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon-alibi": ("falcon", GLU | {"alibi": True, "bias": True}),
    "gptj": ("gptj", GPT | {"rotary_dim": 4}),
    "mixtral": ("mixtral", GLU | EXPERTS | {"sliding_window": 4}),
    "qwen2_moe": (
        "qwen2_moe",
        GLU
        | {
            "moe_intermediate_size": 24,
            "shared_expert_intermediate_size": 32,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "decoder_sparse_step": 2,
        },
    ),
    "qwen3_moe": (
        "qwen3_moe",
        GLU | {"head_dim": 8, "moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2},
    ),
    "gpt_oss": ("gpt_oss", GLU | EXPERTS | {"head_dim": 8, "sliding_window": 4}),
    "llama4_text": (
        "llama4_text",
        GLU
        | EXPERTS
        | {
            "head_dim": 8,
            "num_experts_per_tok": 1,
            "intermediate_size_mlp": 48,
            "moe_layers": [1],
            "attention_chunk_size": 4,
        },
    ),
    "gemma3": (
        "gemma3",
        {
            "text_config": GLU | {"vocab_size": VOCAB, "head_dim": 8, "sliding_window": 4, "layer_types": SLIDING},
            "vision_config": {
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 28,
                "patch_size": 14,
            },
        },
    ),
}
ROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10_000.0}
EYE = {"hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32}
FAMILIES |= {
    "falcon_h1": ("falcon_h1", GLU | {
        "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8,
        "head_dim": 8,
        "ssm_multipliers": [0.5, 2.0, 1.5, 0.7, 1.2], "mamba_chunk_size": 8,
    }),
    "mamba": ("mamba", {
        "hidden_size": 32, "state_size": 8, "num_hidden_layers": 2, "intermediate_size": 64, "time_step_rank": 4,
    }),
    "jamba": ("jamba", GLU | {
        "mamba_d_state": 8, "mamba_dt_rank": 4, "num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1,
        "expert_layer_period": 2, "expert_layer_offset": 1, "use_mamba_kernels": False,
    }),
    "zamba2": ("zamba2", GLU | {  # blocks 1 and 3 share one transformer, and read the embedding
        "num_hidden_layers": 4, "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"], "mamba_d_state": 8,
        "n_mamba_heads": 4, "mamba_ngroups": 1, "num_mem_blocks": 1, "chunk_size": 8, "use_mem_rope": True,
        "attention_hidden_size": 64, "attention_head_dim": 16, "adapter_rank": 4, "use_mamba_kernels": False,
    }),
    "qwen2_5_vl": ("qwen2_5_vl", {
        "text_config": GLU | {"vocab_size": VOCAB, "rope_parameters": ROPE},
        "vision_config": EYE | {"depth": 1, "fullatt_block_indexes": [0]},
    }),
    "qwen3_vl": ("qwen3_vl", {
        "text_config": GLU | {"vocab_size": VOCAB, "head_dim": 8, "rope_parameters": ROPE},
        "vision_config": EYE | {"depth": 2, "deepstack_visual_indexes": [0]},
    }),
    "llava": ("llava", {
        "text_config": GLU | {"vocab_size": VOCAB, "model_type": "llama"},
        "vision_config": FAMILIES["gemma3"][1]["vision_config"] | {"model_type": "clip_vision_model"},
        "image_token_id": 63,
    }),
}  # fmt: skip
TWO = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
}  # fmt: skip
# Encoders, encoder-decoders, and what has no perplexity.
ENCODING: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", GLU),
    "t5": ("t5", {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4,
                  "decoder_start_token_id": 0}),
    "bart": ("bart", TWO | {"max_position_embeddings": 64}),
    "whisper": ("whisper", TWO | {"num_mel_bins": 8, "max_source_positions": 16, "max_target_positions": 16,
                                  "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
                                  "decoder_start_token_id": 1}),
    "vit": ("vit", FAMILIES["gemma3"][1]["vision_config"] | {"num_hidden_layers": 2}),
    "xlnet": ("xlnet", {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48}),
    "rwkv": ("rwkv", {"hidden_size": 32, "attention_hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48,
                      "context_length": 64}),
}  # fmt: skip
UNSUPPORTED = {
    "gemma3n_text": ("gemma3n_text", GLU | PER_LAYER | {"altup_num_inputs": 2, "laurel_rank": 4}),
    "hrm_text": ("hrm_text", GLU),  # runs its blocks in cycles
    "gemma4_text": ("gemma4_text", GLU | PER_LAYER | {"global_head_dim": 8}),
}  # fmt: skip


@torch.no_grad()
def build(family: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A model whose every parameter is random, norms and biases too, large enough that outputs tell blocks apart."""
    kind, config = {**FAMILIES, **ENCODING, **UNSUPPORTED}[family]
    settings = AutoConfig.for_model(kind, vocab_size=VOCAB, **(config | changes))
    model = family_of(settings).model_class._from_config(settings, dtype=torch.float32)
    draw = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=draw)
        parameter.copy_(noise * 0.15 if parameter.ndim > 1 else parameter + 0.2 * noise)
    return model.eval().requires_grad_(False)


def save(
    family: str,
    folder: Path,
    dtype: torch.dtype = torch.float32,
    shard_size: str = "1GB",
    seed: int = 0,
    **changes: Any,
) -> Path:
    """A checkpoint folder of `build(family)`."""
    disable_progress_bar()
    model = build(family, seed, **changes)
    torch.nn.Module.to(model, dtype)
    model.save_pretrained(folder, max_shard_size=shard_size)
    return folder


def load_whole(folder: Path, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """The whole model in memory, loaded by transformers alone."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    model = family_of(config).model_class.from_pretrained(folder, dtype=dtype or "auto", local_files_only=True)
    return model.eval().requires_grad_(False)


def token_ids(samples: int, seq_len: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, VOCAB, (samples, seq_len), generator=torch.Generator().manual_seed(seed))


def save_tokenizer(folder: Path, bos: bool = True) -> None:
    """One token a character: "a" is 3, ..., unknown ones are <unk>; <s> in front if asked for."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

    letters = "abcdefghijklmnopqrstuvwxyz0123456789 .,!?\n"
    vocabulary = {token: n for n, token in enumerate(["<unk>", "<s>", "</s>", *letters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>").save_pretrained(folder)


def quiet(*_: object) -> None:
    """Progress and warnings nobody reads."""


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, hidden ones too."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
