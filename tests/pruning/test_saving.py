"""Pruned checkpoints: weights times mask, bit for bit, and everything else as it was."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import block_linears, find_blocks
from pruning.run.driver import prune
from pruning.saving import dense as saving
from pruning.saving.dense import save_pruned
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import build, contents, load_whole, quiet, save, save_tokenizer, token_ids
from workloads.bundle import MaskBundle
from workloads.errors import UserError

BITS = {torch.float32: torch.int32, torch.float16: torch.int16, torch.bfloat16: torch.int16}


def make_masks(model: Path, folder: Path, sparsity: float = 0.5) -> MaskBundle:
    return prune(Checkpoint(model), recipe("magnitude", sparsity, rule="row"), folder, quiet, quiet)


def stored(folder: Path) -> dict[str, torch.Tensor]:
    return {key: tensor for file in folder.glob("*.safetensors") for key, tensor in load_file(file).items()}


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one.view(BITS[one.dtype]), other.view(BITS[other.dtype]))


@torch.no_grad()
def masked_parameters(model: Path, masks: MaskBundle) -> dict[str, torch.Tensor]:
    """The whole original in memory, every pruned weight set to +0.0 through its module."""
    whole = load_whole(model)
    path, blocks = find_blocks(whole)
    for number, block in enumerate(blocks):
        for ref in block_linears(block, f"{path}.{number}", number):
            parameter = dict(block.get_submodule(ref.module_path).named_parameters(recurse=False))[ref.parameter]
            keep = torch.from_numpy(masks[ref.layer.name].to_dense())
            part = parameter if ref.expert is None else parameter[ref.expert]
            part[~(keep.T if ref.transposed else keep)] = 0.0
    return dict(whole.named_parameters())


FAMILIES = ["llama", "llama-tied", "gpt2", "phi3", "bloom", "mixtral", "qwen2_moe", "qwen3_moe", "gpt_oss", "gemma3"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("dtype", "shard_size"), [(torch.float32, "30KB"), (torch.bfloat16, "1GB")])
def test_the_saved_model_is_the_original_times_its_mask(
    family: str, dtype: torch.dtype, shard_size: str, tmp_path: Path
) -> None:
    source, target = save(family, tmp_path / "model", dtype, shard_size), tmp_path / "pruned"
    masks, before = make_masks(source, tmp_path / "masks"), contents(source)
    save_pruned(source, masks, target, quiet)
    assert contents(source) == before
    old, new = stored(source), stored(target)
    assert old.keys() == new.keys()
    assert set(json.loads((target / "model.safetensors.index.json").read_text())["weight_map"]) == new.keys()
    zeros = 0
    for key, tensor in new.items():
        pruned = (tensor == 0) & (old[key] != 0)
        assert same_bits(tensor, torch.where(pruned, torch.zeros_like(tensor), old[key])), key
        zeros += int(pruned.sum())
    assert zeros == sum(entry.layer.n_weights - entry.nnz for entry in masks.layers)
    found = dict(load_whole(target).named_parameters())
    for name, parameter in masked_parameters(source, masks).items():
        assert same_bits(found[name], parameter), name


def test_the_saved_model_computes_what_the_masks_promise(tmp_path: Path) -> None:
    source = save("mixtral", tmp_path / "model")
    masks = make_masks(source, tmp_path / "masks")
    save_pruned(source, masks, tmp_path / "pruned", quiet)
    whole, ids = load_whole(source), token_ids(2, 12)
    dense = whole(input_ids=ids).logits
    whole.load_state_dict(masked_parameters(source, masks), strict=False)
    assert torch.equal(load_whole(tmp_path / "pruned")(input_ids=ids).logits, whole(input_ids=ids).logits)
    assert not torch.allclose(dense, whole(input_ids=ids).logits, atol=1e-3)


def test_tensors_keep_the_types_they_are_stored_in(tmp_path: Path) -> None:
    """Half-precision experts beside float32 norms and a negative zero, under a config that says float32."""
    source = save("mixtral", tmp_path / "model")
    tensors = {
        key: tensor if "norm" in key else tensor.to(torch.bfloat16)
        for key, tensor in load_file(source / "model.safetensors").items()
    }
    expert = "model.layers.0.block_sparse_moe.experts.1.w2.weight"
    tensors[expert][0, :3] = -0.0
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.arange(4.0)  # older checkpoints hold such
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    masks = make_masks(source, tmp_path / "masks")
    assert not masks["model.layers.0.mlp.experts.down_proj.1"].to_dense()[0, :3].any()
    save_pruned(source, masks, tmp_path / "pruned", quiet)
    new = stored(tmp_path / "pruned")
    assert {key: tensor.dtype for key, tensor in new.items()} == {key: tensor.dtype for key, tensor in tensors.items()}
    assert not torch.signbit(new[expert][0, :3]).any()
    assert all(same_bits(new[key], tensor) for key, tensor in tensors.items() if "norm" in key or "inv_freq" in key)


def test_settings_and_tokenizer_come_along_and_indices_do_not(tmp_path: Path) -> None:
    source = save("llama", tmp_path / "model", shard_size="30KB")
    save_tokenizer(source)
    (source / "chat_template.jinja").write_text("{{ messages }}")
    (source / "pytorch_model.bin.index.json").write_text("{}")
    (source / "pruned-from.json").write_text("{}")  # the source may itself be a pruned checkpoint
    masks = make_masks(source, tmp_path / "masks")
    for _ in range(2):
        save_pruned(source, masks, tmp_path / "pruned", quiet)
    files, old = contents(tmp_path / "pruned"), contents(source)
    for name in (
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    ):
        assert files[name] == old[name]
    assert set(files) - set(old) == {f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)} - set(old)
    assert "pytorch_model.bin.index.json" not in files
    assert json.loads(files["pruned-from.json"])["masks_sha256"] == masks.sha256


@pytest.mark.parametrize("shards", [0, 1, 2, 3])
def test_a_killed_run_continues_to_the_same_bytes(shards: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save("mixtral", tmp_path / "model")
    masks = make_masks(source, tmp_path / "masks")
    save_pruned(source, masks, tmp_path / "whole", quiet)
    written, write = [], saving.save_file

    def write_or_die(tensors, part, **rest) -> None:
        if len(written) == shards:
            Path(part).write_bytes(b"half")
            raise KeyboardInterrupt
        written.append(part)
        write(tensors, part, **rest)

    if shards < 3:
        monkeypatch.setattr(saving, "save_file", write_or_die)
        with pytest.raises(KeyboardInterrupt):
            save_pruned(source, masks, tmp_path / "pruned", quiet)
        monkeypatch.undo()
        assert not (tmp_path / "pruned" / "model.safetensors.index.json").exists()
        assert len(list((tmp_path / "pruned").glob("*.safetensors"))) == shards
    save_pruned(source, masks, tmp_path / "pruned", quiet)
    assert contents(tmp_path / "pruned") == contents(tmp_path / "whole")
    again = {file: file.stat().st_mtime_ns for file in (tmp_path / "pruned").glob("*.safetensors")}
    save_pruned(source, masks, tmp_path / "pruned", quiet)
    assert again == {file: file.stat().st_mtime_ns for file in again}


def test_folders_that_are_not_for_this_checkpoint(tmp_path: Path) -> None:
    source, other = save("llama", tmp_path / "model"), save("llama", tmp_path / "other", seed=1)
    masks, more = make_masks(source, tmp_path / "masks"), make_masks(source, tmp_path / "more", 0.25)
    before = contents(source)
    with pytest.raises(UserError, match="is the model itself"):
        save_pruned(source, masks, tmp_path / "model" / ".." / "model", quiet)
    assert contents(source) == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("...")
    with pytest.raises(UserError, match="is not empty"):
        save_pruned(source, masks, tmp_path / "full", quiet)
    save_pruned(source, masks, tmp_path / "pruned", quiet)
    before = contents(tmp_path / "pruned")
    for model, bundle in ((source, more), (other, masks)):
        with pytest.raises(UserError, match="with other masks or from other weights"):
            save_pruned(model, bundle, tmp_path / "pruned", quiet)
    assert contents(tmp_path / "pruned") == before


def test_masks_of_another_model_leave_nothing_behind(tmp_path: Path) -> None:
    build("llama", num_hidden_layers=3).save_pretrained(tmp_path / "deeper")
    source, masks = save("llama", tmp_path / "model"), make_masks(tmp_path / "deeper", tmp_path / "masks")
    with pytest.raises(UserError, match="is not in this model"):
        save_pruned(source, masks, tmp_path / "pruned", quiet)
    assert not (tmp_path / "pruned").exists() or not list((tmp_path / "pruned").iterdir())
