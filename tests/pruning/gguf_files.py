"""GGUF files of tiny models, written by the `gguf` package as llama.cpp's converter lays them out."""

from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def gguf_name(name: str) -> str:
    stem, _, leaf = name.rpartition(".")
    if stem.startswith("model.layers."):
        _, _, number, inner = stem.split(".", 3)
        return f"blk.{number}.{NAMES[inner]}.{leaf}"
    return f"{NAMES[stem]}.{leaf}"


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of q or k as llama.cpp's rotary wants them: the two halves of a head row by row in turn."""
    out = np.empty_like(weight)
    size = len(weight) // heads
    for head in range(heads):
        for i in range(size // 2):
            out[head * size + 2 * i] = weight[head * size + i]
            out[head * size + 2 * i + 1] = weight[head * size + size // 2 + i]
    return out


def write_gguf(model: PreTrainedModel, file: Path, kind: str = "F32") -> dict[str, np.ndarray]:
    """A LLaMA as GGUF with a tokenizer of single bytes; matrices in `kind`. Gives the weights it holds, dequantized, by
    our names."""
    import gguf
    from gguf.quants import dequantize, quantize

    config = model.config
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    add_tokenizer(writer, config.vocab_size)
    held: dict[str, np.ndarray] = {}
    for name, parameter in model.named_parameters():
        weight = parameter.detach().numpy()
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
        chosen = getattr(gguf.GGMLQuantizationType, kind if weight.ndim == 2 else "F32")
        held[name] = weight
        if chosen.name != "F32":
            held[name] = dequantize(quantize(weight, chosen), chosen)
        stored = weight if heads is None else interleaved(weight, heads)
        writer.add_tensor(
            gguf_name(name), quantize(stored, chosen) if chosen.name != "F32" else stored, raw_dtype=chosen
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


def add_tokenizer(writer: Any, vocabulary: int) -> None:
    """A byte-level BPE with one merge: <s>, </s>, <unk>, a space, AB and as many letters as the vocabulary has room
    for."""
    letters = ["AB", *(chr(code) for code in range(33, 33 + vocabulary - 5))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(["<unk>", "<s>", "</s>", "\u0120", *letters])
    writer.add_token_types([2, 3, 3, *[1] * (vocabulary - 3)])
    writer.add_token_merges(["A B"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
