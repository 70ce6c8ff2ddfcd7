"""Reading checkpoints a few parameters at a time: names, conversions, and what is told about broken folders."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints.checkpoint import Checkpoint
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import build, contents, load_whole, quiet, save
from workloads.errors import UserError


def refused(folder: Path, block: int = 0) -> str:
    def read() -> None:
        checkpoint = Checkpoint(folder)
        checkpoint.load_rest()
        checkpoint.load_block(block)

    with pytest.raises(UserError) as refusal:
        read()
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def change(folder: Path, edit) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("family", "key"),
    [
        ("llama", "model.layers.1.mlp.up_proj.weight"),
        ("llama", "model.embed_tokens.weight"),
        ("llama", "lm_head.weight"),
        ("mixtral", "model.layers.1.block_sparse_moe.experts.2.w2.weight"),
    ],
)
def test_a_missing_tensor_is_named(family: str, key: str, tmp_path: Path) -> None:
    save(family, tmp_path)
    change(tmp_path, lambda tensors: tensors.pop(key))
    message = refused(tmp_path, block=1)
    assert str(tmp_path) in message
    assert ("experts.down_proj" if "experts" in key else key) in message


def test_a_tensor_of_another_shape_is_named_with_both_shapes(tmp_path: Path) -> None:
    save("llama", tmp_path)
    change(tmp_path, lambda tensors: tensors.update({"model.layers.0.mlp.up_proj.weight": torch.zeros(47, 32)}))
    message = refused(tmp_path)
    for part in ("model.layers.0.mlp.up_proj.weight", "(47, 32)", "(48, 32)"):
        assert part in message


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "no index", "bad index", "outside"])
def test_broken_files_are_named(damage: str, tmp_path: Path) -> None:
    save("llama", tmp_path, shard_size="30KB")
    shard, index = sorted(tmp_path.glob("*.safetensors"))[0], tmp_path / "model.safetensors.index.json"
    if damage == "cut":
        shard.write_bytes(shard.read_bytes()[:-10])
    elif damage == "empty":
        shard.write_bytes(b"")
    elif damage == "gone":
        shard.unlink()
    elif damage == "no index":
        index.write_text("[1, 2")
    elif damage == "bad index":
        index.write_text('{"weight_map": [1]}')
    else:
        index.write_text(json.dumps({"weight_map": {"lm_head.weight": "../secret.safetensors"}}))
    message = refused(tmp_path)
    assert (shard.name if damage in ("cut", "empty", "gone") else index.name) in message


@pytest.mark.parametrize(
    "change",
    [{"hidden_size": "wide"}, {"num_attention_heads": 0}, {"model_type": "no-such-type"}, {"model_type": "t5"},
     {"hidden_act": "no-such-function"}],
)  # fmt: skip
def test_configs_that_cannot_be_used(change: dict, tmp_path: Path) -> None:
    save("llama", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    assert str(tmp_path) in refused(tmp_path)


@pytest.mark.parametrize("list_or_null", ["[1, 2]", "null", "7"])
def test_a_config_that_is_no_object_says_so(list_or_null: str, tmp_path: Path) -> None:
    save("llama", tmp_path)
    (tmp_path / "config.json").write_text(list_or_null)
    assert "not an object of settings" in refused(tmp_path)


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation", "_attn_implementation_internal"])
def test_the_attention_that_a_config_asks_for_is_not_honoured(key: str, tmp_path: Path) -> None:
    save("llama", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {key: "flash_attention_2"}))
    assert Checkpoint(tmp_path).model.config._attn_implementation == "sdpa"


def test_one_file_of_the_usual_name_is_the_model_whatever_lies_beside_it(tmp_path: Path) -> None:
    """As transformers reads it; "consolidated" files hold the same weights under other names."""
    save("llama", tmp_path)
    save_file({"tok_embeddings.weight": torch.zeros(2, 2)}, tmp_path / "consolidated.safetensors")
    assert [file.name for file in Checkpoint(tmp_path).files] == ["model.safetensors"]


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_checkpoints_of_the_headless_model_load_as_in_transformers(family: str, tmp_path: Path) -> None:
    """Their keys lack the prefix ("layers.0..." instead of "model.layers.0...")."""
    tied = {"tie_word_embeddings": True}
    build(family, **tied).base_model.save_pretrained(tmp_path)
    checkpoint, whole = Checkpoint(tmp_path), load_whole(tmp_path)
    assert not any(key.startswith(("model.", "transformer.")) for key in load_file(tmp_path / "model.safetensors"))
    checkpoint.load_rest()
    for number in range(2):
        checkpoint.load_block(number)
    for name, parameter in whole.named_parameters():
        assert torch.equal(checkpoint.model.get_parameter(name), parameter), name


@pytest.mark.parametrize("family", ["gemma3", "gpt_neox", "gemma2", "llama4_text"])
def test_buffers_equal_those_transformers_computes(family: str, tmp_path: Path) -> None:
    save(family, tmp_path)
    expected = dict(load_whole(tmp_path).named_buffers())
    found = dict(Checkpoint(tmp_path).model.named_buffers())
    assert found.keys() == expected.keys()
    for name, buffer in expected.items():
        assert torch.equal(found[name], buffer), name


def test_a_matrix_cut_into_several_parameters_is_known_under_each(tmp_path: Path) -> None:
    """hrm_text keeps gate and up, and q, k, v and a gate, as one matrix each in its files."""
    from pruning.run.driver import prune
    from pruning.saving.dense import save_pruned

    model = save("hrm_text", tmp_path / "model")
    whole, fused = load_whole(model), [key for key in load_file(model / "model.safetensors") if "gate_up" in key]
    checkpoint = Checkpoint(model)
    names = [name for name, keys in checkpoint.sources.items() if keys == [fused[0]]]
    assert len(names) == 2
    assert set(names) <= checkpoint.converted
    for name in names:
        checkpoint.release(checkpoint.model)
        checkpoint.load([name])
        assert torch.equal(checkpoint.model.get_parameter(name), whole.get_parameter(name))
    masks = prune(Checkpoint(model), recipe("magnitude"), tmp_path / "masks", quiet, quiet)
    save_pruned(model, masks, tmp_path / "pruned", quiet)
    pruned = load_whole(tmp_path / "pruned")
    for entry, mask in masks:
        name = f"{entry.name}.weight"
        keep = torch.from_numpy(mask.to_dense())
        assert torch.equal(pruned.get_parameter(name), whole.get_parameter(name) * keep), name


def test_raw_tensors_can_be_written_into_without_touching_the_files(tmp_path: Path) -> None:
    save("llama", tmp_path, shard_size="30KB")
    before = contents(tmp_path)
    checkpoint = Checkpoint(tmp_path)
    keys = [key for keys in checkpoint.sources.values() for key in keys]
    for tensor in checkpoint.raw(keys).values():
        tensor.zero_()
    assert contents(tmp_path) == before
    assert all(bool(tensor.any()) for tensor in checkpoint.raw(keys).values())


@pytest.mark.parametrize(
    ("change", "what"),
    [({"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}, "auto_map names is never run"),
     ({"model_type": "a\0b"}, "'a\\x00b'"),
     ({"model_type": None}, "no model_type None"), ({"num_hidden_layers": 10**9},
     "num_hidden_layers is 1,000,000,000"), ({"hidden_size": 0}, "hidden_size is 0")],
)  # fmt: skip
def test_configs_that_ask_for_what_is_not_done(change: dict, what: str, tmp_path: Path) -> None:
    save("llama", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    message = refused(tmp_path)
    assert what in message
    assert "\0" not in message
