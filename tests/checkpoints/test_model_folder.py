"""Folders, GGUF files, adapters, and what is fetched from a hub."""

import json
import os
from fnmatch import fnmatch
from pathlib import Path

import huggingface_hub
import pytest

from checkpoints.model_folder import find_model
from workloads.errors import UserError


def refused(model: str) -> str:
    with pytest.raises(UserError) as refusal:
        find_model(model)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_an_adapter_says_how_to_merge_it(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    message = refused(str(tmp_path))
    assert "LoRA adapter of org/base" in message
    assert "merge it first" in message
    assert "merge_and_unload()" in message
    (tmp_path / "config.json").write_text("{}")  # as some tools leave it beside the adapter
    assert "merge it first" in refused(str(tmp_path))
    for broken in ("[", "[]", '{"base_model_name_or_path": 5}'):
        (tmp_path / "adapter_config.json").write_text(broken)
        assert "LoRA adapter, not a model" in refused(str(tmp_path))


def test_places_that_are_no_model(tmp_path: Path) -> None:
    assert "neither a config.json nor a GGUF file" in refused(str(tmp_path))
    assert "null byte" in refused("a\0b")
    (tmp_path / "a.txt").write_text("hello")
    for name in (str(tmp_path / "a.txt"), "nothing", "a/b/c", str(tmp_path / "gone")):
        assert "is not a model" in refused(name)


class Hub:
    """A hub's repository: what is asked for is "downloaded" into a snapshot whose files are links to blobs."""

    def __init__(self, root: Path, files: dict[str, str]):
        self.files, self.fetched = files, set()
        self.snapshot, self.blobs = root / "snapshots/abc", root / "blobs"
        self.snapshot.mkdir(parents=True)
        self.blobs.mkdir()

    def download(self, model: str, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        for name, content in self.files.items():
            wanted = any(fnmatch(name, pattern) for pattern in allow_patterns)
            if wanted and not any(fnmatch(name, pattern) for pattern in ignore_patterns) and name not in self.fetched:
                self.fetched.add(name)
                (self.blobs / name).write_text(content)
                (self.snapshot / name).symlink_to(os.path.relpath(self.blobs / name, self.snapshot))
        return str(self.snapshot)


SETTINGS = {"config.json": "{}", "tokenizer.json": "{}", "tokenizer_config.json": "{}", "README.md": "x"}
EXTRA = {"original/consolidated.00.pth": "x", "onnx/model.onnx": "x", "original/params.json": "{}", "tf_model.h5": "x"}
INDEX = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})
BIN_INDEX = json.dumps({"weight_map": {"a": "pytorch_model-1.bin"}})


@pytest.mark.parametrize(
    ("weights", "wanted"),
    [
        ({"model.safetensors.index.json": INDEX, "model-1.safetensors": "x", "model-2.safetensors": "x",
          "consolidated.safetensors": "x", "pytorch_model.bin.index.json": BIN_INDEX, "pytorch_model-1.bin": "x"},
         {"model-1.safetensors", "model-2.safetensors"}),
        ({"model.safetensors": "x", "pytorch_model.bin": "x", "model.fp16.safetensors": "x"}, {"model.safetensors"}),
        ({"pytorch_model.bin": "x", "training_args.bin": "x"}, {"pytorch_model.bin"}),
        ({"pytorch_model.bin.index.json": BIN_INDEX, "pytorch_model-1.bin": "x", "x.bin": "x"},
        {"pytorch_model-1.bin"}),
        ({"other.safetensors": "x", "other.bin": "x"}, {"other.safetensors"}),
    ],
    ids=["shards", "one", "torch", "torch-shards", "other-name"],
)  # fmt: skip
def test_only_one_set_of_weights_is_fetched(
    weights: dict, wanted: set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(tmp_path, SETTINGS | weights | EXTRA)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.download)
    assert find_model("org/model") == hub.snapshot
    settings = {name for name in hub.files if name.endswith(".json") and "/" not in name}
    assert hub.fetched == settings | wanted


def test_a_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise ConnectionError("no route\nto host. Pass trust_remote_code=True to go on.")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    message = refused("org/model")
    assert "out of reach: no route to host" in message
    assert "trust_remote_code" not in message


def test_links_that_leave_the_folder_or_lead_nowhere(tmp_path: Path) -> None:
    from checkpoints.weight_files import weight_files

    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_text("x")
    (folder / "model.safetensors").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match="leads out of its folder"):
        weight_files(folder)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("model.safetensors")
    with pytest.raises(UserError, match="leads nowhere"):
        weight_files(folder)
