"""Weights of every kind of file equal those transformers loads; what is damaged, foreign or unsafe is told in one
line."""

import io
import json
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints.checkpoint import Checkpoint
from checkpoints.weight_files import kind_of, weight_files
from validation.conformance.tiny_models import build, load_whole, save
from workloads.errors import UserError


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as refusal:
        Checkpoint(folder)
    message = str(refusal.value)
    assert "\n" not in message
    assert not any(word in message for word in ("weights_only", "allow_pickle", "trust_remote"))
    return message


def to_torch(folder: Path, name: str = "pytorch_model.bin", old: bool = False) -> None:
    """The same weights as torch.save writes them; old: as before torch 1.6."""
    state = load_file(folder / "model.safetensors")
    torch.save(state, folder / name, _use_new_zipfile_serialization=not old)
    (folder / "model.safetensors").unlink()


def assert_equals_transformers(folder: Path, original: Path) -> None:
    checkpoint, whole = Checkpoint(folder), load_whole(original)
    checkpoint.load_rest()
    for number in range(len(checkpoint.blocks)):
        checkpoint.load_block(number)
    for name, parameter in whole.named_parameters():
        assert torch.equal(checkpoint.model.get_parameter(name), parameter), name


@pytest.mark.parametrize("family", ["llama", "llama-tied", "gpt2", "mixtral"])
@pytest.mark.parametrize("old", [False, True], ids=["zip", "before-1.6"])
def test_torch_files_hold_the_same_model(family: str, old: bool, tmp_path: Path) -> None:
    save(family, tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    to_torch(tmp_path / "b", old=old)
    assert_equals_transformers(tmp_path / "b", tmp_path / "a")


def test_sharded_torch_files(tmp_path: Path) -> None:
    save("llama", tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    state = load_file(tmp_path / "b/model.safetensors")
    (tmp_path / "b/model.safetensors").unlink()
    names = {key: f"pytorch_model-{1 + number % 2:05d}-of-00002.bin" for number, key in enumerate(sorted(state))}
    for name in set(names.values()):
        torch.save({key: tensor for key, tensor in state.items() if names[key] == name}, tmp_path / "b" / name)
    (tmp_path / "b/pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": names}))
    assert_equals_transformers(tmp_path / "b", tmp_path / "a")
    (tmp_path / "b/pytorch_model-00002-of-00002.bin").unlink()
    assert "pytorch_model-00002-of-00002.bin is missing (1 of 2" in refused(tmp_path / "b")


@pytest.mark.parametrize("name", ["weights.bin", "pytorch_model.bin", "model.pt", "model"])
def test_safetensors_are_known_by_content(name: str, tmp_path: Path) -> None:
    save("llama", tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b/model.safetensors").rename(tmp_path / "b" / name)
    assert_equals_transformers(tmp_path / "b", tmp_path / "a")


@pytest.mark.parametrize("name", ["model.safetensors", "weights.pth", "checkpoint"])
def test_torch_files_are_known_by_content(name: str, tmp_path: Path) -> None:
    save("llama", tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    to_torch(tmp_path / "b", "x")
    torch.save({"step": 5}, tmp_path / "b/training_args.bin")
    torch.save({"step": 5}, tmp_path / "b/optimizer.pt")
    (tmp_path / "b/x").rename(tmp_path / "b" / name)
    assert_equals_transformers(tmp_path / "b", tmp_path / "a")


def test_a_state_dict_inside_a_dict_is_found(tmp_path: Path) -> None:
    save("llama", tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    state = load_file(tmp_path / "b/model.safetensors")
    (tmp_path / "b/model.safetensors").unlink()
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "b/model.pt")
    assert_equals_transformers(tmp_path / "b", tmp_path / "a")


class Harmful:
    def __reduce__(self):
        return (print, ("unpickled",))


def damaged(kind: str, state: dict[str, torch.Tensor]) -> bytes:
    stream = io.BytesIO()
    if kind == "objects":
        torch.save({"x": Harmful()}, stream)
    elif kind == "no-tensors":
        torch.save({"x": 1}, stream)
    elif kind == "list":
        torch.save([torch.zeros(3)], stream)
    elif kind == "stretched":
        torch.save({"x": torch.zeros(1).expand(1 << 20, 1 << 20)}, stream)
    elif kind == "sparse":
        torch.save({"x": torch.eye(3).to_sparse()}, stream)
    elif kind == "bomb":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/data.pkl", b"\0" * (1 << 24))
    elif kind == "cut":
        torch.save(state, stream)
        return stream.getvalue()[:-2000]
    elif kind == "pickle":
        return pickle.dumps(Harmful())
    return stream.getvalue()


KINDS = {"objects": "beside tensors", "no-tensors": "no tensors", "list": "holds a list", "stretched": "holds less",
         "sparse": "sparse", "bomb": "would unpack to", "cut": "damaged", "pickle": "beside tensors"}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_torch_files_that_cannot_be_read(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save("llama", tmp_path)
    content = damaged(kind, load_file(tmp_path / "model.safetensors"))
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    message = refused(tmp_path)
    assert KINDS[kind] in message
    assert "pytorch_model.bin" in message
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html>", "web page"),
        (b"", "empty"),
    ],
)
def test_what_lies_there_instead_of_weights(content: bytes, what: str, tmp_path: Path) -> None:
    save("llama", tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    assert what in refused(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "weights.bin")
    assert what in refused(tmp_path)


def test_a_zip_of_the_folder_is_no_weight_file(tmp_path: Path) -> None:
    save("llama", tmp_path)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(tmp_path / "config.json", "config.json")
    (tmp_path / "model.safetensors").rename(tmp_path / "part.safetensors")
    assert [file.name for file in weight_files(tmp_path)] == ["part.safetensors"]
    (tmp_path / "part.safetensors").unlink()
    assert "holds no weights" in refused(tmp_path)


def test_kinds_are_told_by_the_first_bytes(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "a")
    torch.save({"a": torch.zeros(2)}, tmp_path / "b")
    (tmp_path / "c").write_bytes(b"GGUF" + b"\0" * 20)
    (tmp_path / "d").write_text("hello, this is a text")
    assert [kind_of(tmp_path / name) for name in "abcd"] == ["safetensors", "torch", "gguf", None]


def test_a_pruned_torch_model_is_written_as_safetensors(tmp_path: Path) -> None:
    """Tied weights share their memory in a torch file; safetensors hold each name on its own."""
    from pruning.run.driver import prune
    from pruning.saving.dense import save_pruned
    from tests.pruning.recipes import recipe
    from validation.conformance.tiny_models import quiet

    model = build("llama-tied")
    save("llama-tied", tmp_path / "model")
    (tmp_path / "model/model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "model/pytorch_model.bin")
    masks = prune(Checkpoint(tmp_path / "model"), recipe("magnitude"), tmp_path / "masks", quiet, quiet)
    save_pruned(tmp_path / "model", masks, tmp_path / "pruned", quiet)
    pruned = load_whole(tmp_path / "pruned")
    for entry, mask in masks:
        keep = torch.from_numpy(mask.to_dense())
        assert torch.equal(
            pruned.get_parameter(f"{entry.name}.weight"), model.get_parameter(f"{entry.name}.weight") * keep
        )
    assert not (tmp_path / "pruned/pytorch_model.bin").exists()
