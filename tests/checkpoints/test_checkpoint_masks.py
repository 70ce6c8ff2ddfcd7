"""Masks of checkpoints whose weights hold zeros: what is read equals `weight != 0` of the model transformers loads."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from checkpoints.checkpoint_masks import read_checkpoint_masks
from checkpoints.discovery import block_linears, find_blocks
from workloads.errors import UserError

LLAMA = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GPT2 = {
    "vocab_size": 64,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
QWEN_MOE = LLAMA | {
    "moe_intermediate_size": 24, "num_experts": 3, "num_experts_per_tok": 2, "decoder_sparse_step": 1, "head_dim": 8,
}  # fmt: skip
FAMILIES = {
    "llama": LLAMA, "opt": LLAMA | {"ffn_dim": 48, "word_embed_proj_dim": 32}, "gpt2": GPT2,
    "mixtral": LLAMA | {"num_local_experts": 3}, "qwen3_moe": QWEN_MOE,
}  # fmt: skip


def zeroed_model(kind: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A random model; a random part of every parameter of two or more dimensions is zero, some of it -0.0."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **FAMILIES[kind]), dtype=dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.masked_fill_(torch.rand(parameter.shape) < 0.6, 0.0)
                parameter.masked_fill_(torch.rand(parameter.shape) < 0.1, -0.0)
    return model


def saved(folder: Path, kind: str = "llama", dtype: torch.dtype = torch.float32, **more: object) -> Path:
    zeroed_model(kind, dtype).save_pretrained(folder, **more)
    return folder


def check_against_loaded(folder: Path) -> None:
    """Every mask, in module order, against the matrices of the model as transformers loads it."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    path, blocks = find_blocks(model)
    want = [
        (ref.layer, (ref.matrix(block) != 0).numpy())
        for number, block in enumerate(blocks)
        for ref in block_linears(block, f"{path}.{number}", number)
    ]
    found = list(read_checkpoint_masks(folder))
    assert [layer for layer, _ in found] == [layer for layer, _ in want]
    for (_, mask), (_, keep) in zip(found, want, strict=True):
        assert 0.2 < keep.mean() < 0.5
        assert np.array_equal(mask.to_dense(), keep)


@pytest.mark.parametrize("kind", FAMILIES)
def test_families(tmp_path: Path, kind: str) -> None:
    check_against_loaded(saved(tmp_path, kind))


@pytest.mark.parametrize("kind", ["llama", "mixtral"])
def test_shards(tmp_path: Path, kind: str) -> None:
    folder = saved(tmp_path, kind, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    check_against_loaded(folder)


def test_bfloat16(tmp_path: Path) -> None:
    check_against_loaded(saved(tmp_path, dtype=torch.bfloat16))


def test_gpt2_matrices_are_turned_to_out_by_in(tmp_path: Path) -> None:
    """From the file itself: Conv1D stores (in, out)."""
    folder = saved(tmp_path, "gpt2")
    stored = load_file(folder / "model.safetensors")["transformer.h.1.mlp.c_fc.weight"]
    mask = next(mask for layer, mask in read_checkpoint_masks(folder) if layer.name.endswith("h.1.mlp.c_fc"))
    assert tuple(stored.shape) == (32, 128)
    assert np.array_equal(mask.to_dense(), (stored.T != 0).numpy())


def test_mixtral_experts_are_the_matrices_of_the_files(tmp_path: Path) -> None:
    folder = saved(tmp_path, "mixtral")
    stored = load_file(folder / "model.safetensors")
    masks = {layer.name: mask.to_dense() for layer, mask in read_checkpoint_masks(folder)}
    for expert in range(3):
        w1, w2, w3 = (stored[f"model.layers.1.block_sparse_moe.experts.{expert}.w{n}.weight"] != 0 for n in (1, 2, 3))
        assert np.array_equal(masks[f"model.layers.1.mlp.experts.gate_up_proj.{expert}"], torch.cat([w1, w3]).numpy())
        assert np.array_equal(masks[f"model.layers.1.mlp.experts.down_proj.{expert}"], w2.numpy())


def first_error(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        list(read_checkpoint_masks(folder))
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(tmp_path: Path, value: float) -> None:
    folder = saved(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.self_attn.k_proj.weight"][3, 4:6] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert "model.layers.1.self_attn.k_proj: 2 of 512 weights are NaN or Inf; repair" in first_error(folder)


def change_tensors(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_lacking_and_misshapen_weights(tmp_path: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    folder = saved(tmp_path / "a")
    change_tensors(folder, lambda tensors: tensors.pop(name))
    assert f"the checkpoint lacks {name}" in first_error(folder)
    folder = saved(tmp_path / "b")
    change_tensors(folder, lambda tensors: tensors.update({name: torch.ones(48, 31)}))
    assert f"{name} has shape (48, 31), its config asks for (48, 32)" in first_error(folder)


def test_missing_and_broken_shards(tmp_path: Path) -> None:
    folder = saved(tmp_path, max_shard_size="20KB")
    shard = sorted(folder.glob("*.safetensors"))[1]
    content = shard.read_bytes()
    shard.write_bytes(content[:-5])
    assert f"{shard} is not a readable safetensors file" in first_error(folder)
    shard.unlink()
    assert f"weight file {shard.name} is missing" in first_error(folder)


@pytest.mark.parametrize(
    "index", [[], {}, {"weight_map": []}, {"weight_map": {"a": 3}}, {"weight_map": {"a": "../x.safetensors"}}]
)
def test_broken_index(tmp_path: Path, index: object) -> None:
    folder = saved(tmp_path, max_shard_size="20KB")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert 'model.safetensors.index.json: its "weight_map" does not name weight files' in first_error(folder)


def test_a_whole_file_wins_over_an_index_beside_it(tmp_path: Path) -> None:
    """As transformers has it."""
    folder = saved(tmp_path)
    index = {"metadata": {}, "weight_map": {"model.embed_tokens.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    check_against_loaded(folder)


def set_config(folder: Path, content: object) -> None:
    (folder / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize(
    "content",
    ["{", "[]", {}, {"model_type": "no-such"}, {"model_type": "vitmatte"},
    {"model_type": "llama", "hidden_size": "many"},
     {"model_type": "llama", **LLAMA, "num_attention_heads": 0}],
)  # fmt: skip
def test_unusable_config(tmp_path: Path, content: object) -> None:
    folder = saved(tmp_path)
    set_config(folder, content)
    message = first_error(folder)
    assert any(
        part in message
        for part in (
            "is not valid JSON",
            "not an object",
            "config.json is not usable",
            "no model to prune",
            "cannot build",
        )
    )


def test_places_that_are_no_model(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    assert "holds no weights" in first_error(folder)
    save_file({"lm_head.weight": torch.ones(2, 2)}, folder / "model.safetensors")
    assert "the checkpoint lacks model.layers.0." in first_error(folder)
