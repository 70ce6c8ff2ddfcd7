"""A damaged or foreign bundle is an error that says where, never a wrong mask; a full disk loses nothing."""

import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from workloads import bundle_writer
from workloads.bundle import BundleFile, BundleHeader, MaskBundle, _read_header
from workloads.bundle_writer import BundleWriter
from workloads.errors import UserError
from workloads.layers import Layer
from workloads.mask import PackedMask

HEADER = BundleHeader("tiny", "x", parameters={"eps": 1e-5}, target_sparsity=0.3, model_config={"hidden_size": 70})
LAYERS = [Layer(f"l.{n}", "q", n, 2, 70) for n in range(2)]
DENSE = {layer.name: np.random.default_rng(layer.block).random(layer.shape) < 0.5 for layer in LAYERS}
SHARDS = ["masks-00000.safetensors", "masks-00001.safetensors"]


def write(folder: Path, pattern: str = "unstructured") -> MaskBundle:
    writer = BundleWriter(folder, HEADER)
    for layer in LAYERS:
        if layer.name not in writer.written:
            writer.add(layer, PackedMask.from_dense(DENSE[layer.name]), pattern)
            writer.commit()
    return writer.finish()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "b")
    return tmp_path / "b"


def error_of(action: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(folder: Path, change: Callable[[dict], None], resign: bool = True) -> None:
    """Changes bundle.json; `resign` drops its hash, as someone who knows the format would."""
    raw = json.loads((folder / "bundle.json").read_text())
    change(raw)
    if resign:
        raw["sha256"] = ""
    (folder / "bundle.json").write_text(json.dumps(raw))


@pytest.mark.parametrize("file", ["bundle.json", SHARDS[0]])
def test_any_flipped_byte_is_noticed_or_harmless(folder: Path, file: str) -> None:
    """Every byte in turn, a different bit each; the reader may only fail or give the same masks."""
    good = (folder / file).read_bytes()
    noticed = harmless = 0
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << (place % 8)
        (folder / file).write_bytes(bytes(bad))
        try:
            bundle = MaskBundle.open(folder)
            masks = {layer.name: bundle[layer.name].to_dense() for layer in LAYERS[:1]}
        except UserError as error:
            noticed += str(folder) in str(error) and "\n" not in str(error)
        else:
            harmless += 1
            assert bundle.header == HEADER
            assert all(np.array_equal(DENSE[name], dense) for name, dense in masks.items())
    assert noticed + harmless == len(good)
    assert harmless <= 1  # the "e" of 1e-05 may turn into "E"


def test_flips_in_the_bits_of_a_mask_name_layer_and_shard(folder: Path) -> None:
    good = (folder / SHARDS[1]).read_bytes()
    size = LAYERS[1].out_features * 16
    for place in range(len(good) - size, len(good)):
        bad = bytearray(good)
        bad[place] ^= 0x10
        (folder / SHARDS[1]).write_bytes(bytes(bad))
        bundle = MaskBundle.open(folder)
        assert np.array_equal(bundle["l.0"].to_dense(), DENSE["l.0"])
        for action in (lambda b=bundle: b["l.1"], bundle.validate, lambda b=bundle: list(b)):
            message = error_of(action)
            assert f"{folder}: layer l.1 in {SHARDS[1]}: " in message
            assert message.endswith("make the bundle again")


def test_truncated_and_absent_shards(folder: Path) -> None:
    good = (folder / SHARDS[1]).read_bytes()
    for length in (0, 7, 8, 50, len(good) - 1):
        (folder / SHARDS[1]).write_bytes(good[:length])
        assert "cannot be read" in error_of(lambda: MaskBundle.open(folder))
    (folder / SHARDS[1]).write_bytes(good)
    opened = MaskBundle.open(folder)
    (folder / SHARDS[1]).unlink()
    assert "cannot be read" in error_of(lambda: opened["l.1"])
    assert f"shard {SHARDS[1]} is missing" in error_of(lambda: MaskBundle.open(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {"l.1": t["l.0"]}, "hash differs"), (lambda t: {"x": t["l.1"]}, "cannot be read"),
        (lambda t: {"l.1": t["l.1"][:1]}, "does not fit"), (lambda t: {"l.1": t["l.1"].view(np.int8)}, "does not fit"),
        (lambda t: {"l.1": t["l.1"] | 0xC0}, "bits set beyond"),
    ],
)  # fmt: skip
def test_foreign_tensors(folder: Path, change: Callable, message: str) -> None:
    tensors = {**load_file(folder / SHARDS[0]), **load_file(folder / SHARDS[1])}
    save_file(change(tensors), folder / SHARDS[1])
    found = error_of(MaskBundle.open(folder).validate)
    assert message in found
    assert f"layer l.1 in {SHARDS[1]}" in found


def set_layer(**values: object) -> Callable[[dict], None]:
    return lambda raw: raw["layers"][1].update(values)


@pytest.mark.parametrize("resign", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_layer(nnz=3), "bundle.json says 3"), (set_layer(sha256="0" * 64), "hash differs"),
        (set_layer(in_features=71), "hash differs"), (set_layer(in_features=64), "does not fit"),
        (set_layer(in_features=69), "beyond the last column|hash differs"), (set_layer(out_features=0), "does not fit"),
        (set_layer(pattern="2:4"), r"l\.1: the mask does not follow its pattern 2:4"),
        (set_layer(pattern="half"), "unknown pattern 'half'"), (set_layer(shard=SHARDS[0]), "cannot be read"),
    ],
)  # fmt: skip
def test_wrong_claims_about_a_layer(folder: Path, change: Callable, message: str, resign: bool) -> None:
    edit(folder, change, resign)
    if resign:
        with pytest.raises(UserError, match=message) as caught:
            MaskBundle.open(folder).validate()
        assert str(folder) in str(caught.value)
    else:
        assert "was changed after it was written" in error_of(lambda: MaskBundle.open(folder))


@pytest.mark.parametrize("shard", ["../outside.safetensors", "/etc/hostname", "..", "", "sub/masks.safetensors"])
def test_shards_outside_the_folder_are_never_opened(folder: Path, shard: str) -> None:
    (folder / "sub").mkdir()
    for place in (folder.parent / "outside.safetensors", folder / "sub" / "masks.safetensors"):
        shutil.copy(folder / SHARDS[1], place)
    edit(folder, set_layer(shard=shard))
    assert "shard" in error_of(lambda: MaskBundle.open(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(version=8), "has format version 8; this prunesim reads 7 and older: upgrade prunesim"),
        (lambda raw: raw.update(version="1"), "version '1'"), (lambda raw: raw.pop("version"), "version None"),
        (lambda raw: raw.update(format="zip"), "does not describe a mask bundle"),
        (lambda raw: raw.clear(), "describe"),
        (lambda raw: raw.update(layers=[]), "lists no layers"), (lambda raw: raw.update(more=1), "more: "),
        (lambda raw: raw["header"].pop("method"), "header.method: "), (lambda raw: raw.update(layers=3), "layers: "),
        (lambda raw: raw["header"].update(seed="x"), "header.seed: "), (set_layer(nnz=None), r"layers\.1\.nnz: "),
        (lambda raw: raw["header"].update(target_sparsity=float("nan")), "fraction"),
        (lambda raw: raw["layers"].append(raw["layers"][0]), "lists layer 'l.0' twice"),
    ],
)  # fmt: skip
def test_headers_that_cannot_be_read(folder: Path, change: Callable, message: str) -> None:
    edit(folder, change)
    with pytest.raises(UserError, match=message) as caught:
        MaskBundle.open(folder)
    assert "\n" not in str(caught.value)
    assert str(folder / "bundle.json") in str(caught.value)


def test_places_that_are_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    assert "no such folder" in error_of(lambda: MaskBundle.open(tmp_path / "nowhere"))
    assert "no such folder" in error_of(lambda: MaskBundle.open(tmp_path / "file"))
    message = error_of(lambda: MaskBundle.open(tmp_path / "empty"))
    assert message == f"{tmp_path / 'empty'} is not a mask bundle: it holds no bundle.json"
    (tmp_path / "empty" / "bundle.json").write_text("[]")
    assert "does not describe a mask bundle" in error_of(lambda: MaskBundle.open(tmp_path / "empty"))


def test_content_hash_covers_every_field(folder: Path) -> None:
    content = _read_header(folder / "bundle.json")
    changed: list[BundleFile] = [content]
    for field, value in {"model_id": "m", "method": "y", "seed": 1, "pattern": "2:4", "tool_version": "9"}.items():
        changed.append(dataclasses.replace(content, header=dataclasses.replace(content.header, **{field: value})))
    changed.append(dataclasses.replace(content, layers=content.layers[::-1]))
    assert len({file.content_sha256() for file in changed}) == len(changed)


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def no_space_in_safetensors(*_: object) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("full", ["replace", "save", "save_safetensors", "finish"])
def test_a_full_disk_loses_nothing(tmp_path: Path, folder: Path, full: str) -> None:
    writer = BundleWriter(tmp_path / "new", HEADER)
    masks = [PackedMask.from_dense(DENSE[layer.name]) for layer in LAYERS]
    writer.add(LAYERS[0], masks[0], "unstructured")
    writer.commit()
    writer.add(LAYERS[1], masks[1], "unstructured")
    if full == "finish":
        writer.commit()
    before = sorted(path.name for path in (tmp_path / "new").iterdir())
    with pytest.MonkeyPatch.context() as patch:
        if full in ("replace", "finish"):
            patch.setattr(os, "replace", no_space)
        else:
            patch.setattr(bundle_writer, "save_file", no_space if full == "save" else no_space_in_safetensors)
        message = error_of(writer.finish)
    file = "bundle.json" if full == "finish" else SHARDS[1]
    assert f"cannot write {tmp_path / 'new' / file}: " in message
    assert "No space left on device" in message
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == before  # and no .part
    resumed = write(tmp_path / "new")  # with room again, a new process goes on
    assert resumed.sha256 == MaskBundle.open(folder).sha256
    for path in folder.iterdir():
        assert (tmp_path / "new" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F16"])
def test_shards_with_types_that_numpy_lacks(folder: Path, dtype: str) -> None:
    size = 2 if dtype in ("BF16", "F16") else 1
    head = json.dumps({"l.0": {"dtype": dtype, "shape": [2, 16], "data_offsets": [0, 32 * size]}}).encode()
    (folder / SHARDS[0]).write_bytes(len(head).to_bytes(8, "little") + head + bytes(32 * size))
    said = error_of(lambda: MaskBundle.open(folder)["l.0"])
    assert "l.0" in said
    assert "numpy' has no" not in said
