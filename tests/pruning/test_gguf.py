"""GGUF models in every verb: the same weights, config and tokenizer as the folder they were made from."""

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("gguf", reason="the extra `gguf` is not installed")

from checkpoints.catalog import resolve_config
from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import discover_layers
from checkpoints.model_folder import find_model
from pruning.data.calibration import read_calibration
from pruning.data.tokenizer import load_tokenizer, tokenize
from pruning.evaluation.perplexity import perplexity
from pruning.run.driver import prune
from pruning.saving.dense import save_pruned
from tests.pruning.gguf_files import write_gguf
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import build, load_whole, quiet, save, token_ids
from workloads.errors import UserError

WIDE = {"hidden_size": 64, "intermediate_size": 96}  # blocks of 32 quantized weights


@pytest.mark.parametrize("family", ["llama", "llama-tied"])
@pytest.mark.parametrize("kind", ["F32", "Q8_0", "Q4_1"])
def test_the_weights_are_those_of_the_file(family: str, kind: str, tmp_path: Path) -> None:
    held = write_gguf(build(family, attention_bias=False, **WIDE), tmp_path / "tiny.gguf", kind)
    checkpoint = Checkpoint(tmp_path / "tiny.gguf")
    checkpoint.load_rest()
    for number in range(2):
        checkpoint.load_block(number)
    for name, weight in held.items():
        np.testing.assert_array_equal(checkpoint.model.get_parameter(name).detach().numpy(), weight, err_msg=name)
    assert checkpoint.stored_dtype("model.layers.0.mlp.up_proj.weight") == torch.float32


def test_pruned_evaluated_and_saved_as_the_folder_would_be(tmp_path: Path) -> None:
    model = build("llama", **WIDE)
    save("llama", tmp_path / "folder", **WIDE)
    (tmp_path / "g").mkdir()
    write_gguf(model, tmp_path / "g/tiny.gguf")
    found, ids = find_model(str(tmp_path / "g")), token_ids(5, 12)
    assert found == tmp_path / "g/tiny.gguf"
    assert perplexity(Checkpoint(found), ids, None, quiet) == pytest.approx(
        perplexity(Checkpoint(tmp_path / "folder"), ids, None, quiet), rel=1e-6
    )
    masks = prune(Checkpoint(found), recipe("wanda"), tmp_path / "masks", quiet, quiet)
    save_pruned(found, masks, tmp_path / "pruned", quiet)
    pruned = load_whole(tmp_path / "pruned")
    assert pruned.config.use_cache
    for name, parameter in model.named_parameters():
        layer = name.removesuffix(".weight")
        kept = torch.from_numpy(masks[layer].to_dense()) if layer in masks else 1
        assert torch.equal(pruned.get_parameter(name), parameter * kept), name
    assert (
        tokenize(load_tokenizer(tmp_path / "pruned"), "AB C").tolist()
        == tokenize(load_tokenizer(found), "AB C").tolist()
    )


def test_its_own_tokenizer_reads_texts(tmp_path: Path) -> None:
    write_gguf(build("llama"), tmp_path / "tiny.gguf")
    (tmp_path / "a.txt").write_text("ABC " * 100)
    ids = read_calibration(str(tmp_path / "a.txt"), tmp_path / "tiny.gguf", 3, 20, 0).ids
    assert ids.shape == (3, 20)
    assert set(ids.unique().tolist()) == {3, 4, 5 + ord("C") - 33}  # a space, AB, C


def test_shapes_come_from_its_metadata(tmp_path: Path) -> None:
    write_gguf(build("llama"), tmp_path / "tiny.gguf")
    (tmp_path / "tiny.gguf").rename(tmp_path / "tiny")  # known by content
    for source, name in ((tmp_path / "tiny", "tiny"), (tmp_path, tmp_path.name)):
        model_id, config = resolve_config(str(source))
        assert model_id == name
        assert [layer.shape for layer in discover_layers(config)] == [
            layer.shape for layer in discover_layers(build("llama").config)
        ]


def damaged(kind: str, content: bytes) -> bytes:
    if kind == "cut":
        return content[: len(content) // 2]
    if kind == "header":
        return content[:40]
    if kind == "counts":
        return content[:8] + b"\xff" * 8 + content[16:]
    return content.replace(b"llama", b"zzzzz")


@pytest.mark.parametrize("kind", ["cut", "header", "counts", "architecture"])
def test_damaged_files_are_told_in_one_line(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tiny.gguf"
    write_gguf(build("llama"), file)
    file.write_bytes(damaged(kind, file.read_bytes()))
    with pytest.raises(UserError, match=r"this GGUF file cannot be read") as refusal:
        Checkpoint(file)
    assert "\n" not in str(refusal.value)
    assert str(file) in str(refusal.value)
    assert capsys.readouterr().err == ""


def test_several_files_ask_which(tmp_path: Path) -> None:
    for name in ("a-Q4.gguf", "a-Q8.gguf"):
        write_gguf(build("llama"), tmp_path / name)
    with pytest.raises(UserError, match="2 GGUF files; give the one that is meant"):
        find_model(str(tmp_path))


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    write_gguf(build("llama"), tmp_path / "tiny.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    for use in (Checkpoint, lambda file: resolve_config(str(file))):
        with pytest.raises(UserError, match=r"pip install 'prunesim\[gguf\]'"):
            use(tmp_path / "tiny.gguf")
