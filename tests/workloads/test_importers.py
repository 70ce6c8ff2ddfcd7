"""Masks made elsewhere: .npy folders and .npz files."""

import io
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from checkpoints.mask_sources import open_masks
from workloads.errors import UserError
from workloads.importers import Matrix, block_of, natural, read_mask


def dense(rows: int = 5, cols: int = 70, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((rows, cols)) < 0.5


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def read(path: Path) -> list[Matrix]:
    return list(open_masks(path).read())


def error_of(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


NAMES = [
    f"model.layers.{block}.{name}" for block in (0, 1, 2, 9, 10, 11) for name in ("mlp.up_proj", "self_attn.q_proj")
]


@pytest.mark.parametrize("kind", ["folder", "npz", "compressed"])
def test_masks_in_natural_order(tmp_path: Path, kind: str) -> None:
    arrays = {name: dense(seed=i) for i, name in enumerate(NAMES)}
    shuffled = random.Random(0).sample(NAMES, len(NAMES))
    if kind == "folder":
        for name in shuffled:
            np.save(tmp_path / f"{name}.npy", arrays[name].astype(np.uint8))
        (tmp_path / "notes.txt").write_text("not a mask")
        source = tmp_path
    else:
        source = tmp_path / "masks.npz"
        save = np.savez if kind == "npz" else np.savez_compressed
        save(source, **{name: arrays[name] for name in shuffled})
    found = read(source)
    assert [matrix.name for matrix in found] == NAMES
    assert not any(matrix.told for matrix in found)
    for matrix in found:
        assert np.array_equal(matrix.mask.to_dense(), arrays[matrix.name])


def test_read_mask(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.asfortranarray(dense().astype(float)))
    assert np.array_equal(read_mask(tmp_path / "a.npy").to_dense(), dense())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable .npy"), (b"hello", "not a readable .npy"), (b"PK\x03\x04garbage", "not a readable .npy"),
        (npy(dense())[:-1], "not a readable .npy"), (npy(dense())[:40], "not a readable .npy"),
        (npy(np.array([[1, "a"]], dtype=object)), "not a readable .npy"),
        (npy(np.full((2, 2), 3)), "4 other values, the first is 3"), (npy(np.ones(4)), r"2-D"),
        (npy(np.full((2, 2), np.nan)), "first is nan"), (npy(np.ones((0, 3))), "empty"), (None, "no such mask file"),
    ],
)  # fmt: skip
def test_bad_npy_files(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "l.3.q_proj.npy"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_mask(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    if content not in (None, b"", b"hello"):
        np.save(tmp_path / "l.2.q_proj.npy", dense())
        message = message.replace("first is nan", "4 of 4 weights are NaN")
        with pytest.raises(UserError, match=message):
            read(tmp_path)


def test_an_archive_where_one_mask_is_meant(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", a=dense())
    (tmp_path / "m.npz").rename(tmp_path / "m.npy")
    with pytest.raises(UserError, match=r"m.npy is an .npz archive; give one .npy mask"):
        read_mask(tmp_path / "m.npy")


def test_sources_without_masks(tmp_path: Path) -> None:
    assert "holds no masks, it is empty" in error_of(tmp_path)
    (tmp_path / "notes.txt").write_text("none here")
    assert "holds no masks (only notes.txt)" in error_of(tmp_path)
    assert "holds no masks" in error_of(tmp_path / "notes.txt")
    np.savez(tmp_path / "empty.npz")
    assert "holds no masks" in error_of(tmp_path / "empty.npz")
    assert "no such file or folder" in error_of(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["masks", "masks.pt", "masks.npz", "masks.txt"])
@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors", "pt"])
def test_content_decides_whatever_a_file_is_called(tmp_path: Path, name: str, kind: str) -> None:
    key = "layers.3.self_attn.k_proj"
    path = tmp_path / name
    if kind == "npy":
        path.write_bytes(npy(dense()))
        key = path.stem
    elif kind == "npz":
        with path.open("wb") as stream:
            np.savez(stream, **{key: dense()})
    elif kind == "pt":
        torch.save({key: torch.from_numpy(dense())}, path)
    else:
        path.write_bytes(save({key: torch.from_numpy(dense())}))
    (matrix,) = read(path)
    assert (matrix.name, matrix.told) == (key, False)
    assert np.array_equal(matrix.mask.to_dense(), dense())


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", ["?", "u1", "<i8", ">i4", "<f2", ">f8"])
def test_odd_headers_of_arrays(tmp_path: Path, order: str, version: tuple[int, int], dtype: str) -> None:
    """Fortran order, big-endian numbers, headers of every version: what numpy writes, we read."""
    with (tmp_path / "m.npy").open("wb") as stream:
        np.lib.format.write_array(stream, np.asarray(dense(), dtype=dtype, order=order), version=version)
    (matrix,) = read(tmp_path / "m.npy")
    assert np.array_equal(matrix.mask.to_dense(), dense())


def test_floats_that_are_no_masks_are_weights(tmp_path: Path) -> None:
    """Kept = not zero, and -0.0 is zero; whole numbers other than 0 and 1 are neither."""
    np.savez(tmp_path / "w.npz", a=np.array([[0.0, -0.0, 2.5], [1.0, -1.0, 0.0]]), b=np.array([[1.0, 0.0]]))
    a, b = read(tmp_path / "w.npz")
    assert (a.told, b.told) == (True, False)
    assert a.mask.to_dense().tolist() == [[False, False, True], [True, True, False]]
    np.savez(tmp_path / "n.npz", a=np.array([[0, 1, 2]]))
    assert "1 other values, the first is 2" in error_of(tmp_path / "n.npz")


def test_stacked_experts_are_their_matrices(tmp_path: Path) -> None:
    stack = np.stack([dense(seed=number) for number in range(3)])
    np.savez(tmp_path / "m.npz", **{"layers.0.mlp.experts.up_proj": stack})
    found = read(tmp_path / "m.npz")
    assert [matrix.name for matrix in found] == [f"layers.0.mlp.experts.up_proj.{n}" for n in range(3)]
    assert all(np.array_equal(matrix.mask.to_dense(), stack[n]) for n, matrix in enumerate(found))
    np.savez(tmp_path / "n.npz", **{"layers.0.attention": stack})
    assert "a mask is 2-D" in error_of(tmp_path / "n.npz")


def test_bad_members_of_an_archive_are_named(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    np.savez(path, good=dense(), wrong=np.full((2, 2), 7))
    assert "m.npz: wrong: a mask holds booleans or 0/1" in error_of(path)
    np.savez(path, good=dense(), odd=np.array([[None]]))
    assert "m.npz: odd cannot be read" in error_of(path)


@pytest.mark.parametrize("file", ["m.npz", "m.npy"])
def test_any_flipped_byte_is_a_user_error_or_a_mask(tmp_path: Path, file: str) -> None:
    """An .npz carries checksums, so that a mask it still gives is the right one; an .npy does not."""
    path = tmp_path / file
    if file == "m.npz":
        np.savez_compressed(path, a=dense())
    else:
        np.save(path, dense())
    good = path.read_bytes()
    failed = 0
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << (place * 5 % 8)
        path.write_bytes(bytes(bad))
        try:
            found = [m.mask for m in read(path)] if file == "m.npz" else [read_mask(path)]
        except UserError as error:
            failed += "\n" not in str(error) and str(path) in str(error)
            continue
        if file == "m.npz":
            assert [np.array_equal(mask.to_dense(), dense()) for mask in found] == [True]
    assert failed > len(good) / 10


@pytest.mark.parametrize(
    ("name", "block"),
    [("model.layers.12.q", 12), ("h.3", 3), ("7.x", 7), ("layer3.q", -1), ("q2_proj", -1), ("a.4.b.9.c", 4), ("", -1)],
)
def test_block_of(name: str, block: int) -> None:
    assert block_of(name) == block


def test_natural_order() -> None:
    names = ["a.2", "a.10", "a.10.x", "b", "a", "10", "9", "²", "a.2b10", "a.2b9"]
    want = ["²", "a", "a.2", "a.2b9", "a.2b10", "a.10", "a.10.x", "b", "9", "10"]
    got = sorted(names, key=natural)
    assert [n for n in got if n[0] == "a"] == [n for n in want if n[0] == "a"]
    assert got.index("9") < got.index("10")
    assert sorted(got) == sorted(want)


@pytest.mark.parametrize("file", ["m.pt", "m.npz", "m.safetensors"])
def test_any_damage_to_the_ends_of_a_file_is_a_user_error_or_masks(tmp_path: Path, file: str) -> None:
    """Directories of archives lie at the end, headers at the beginning."""
    path = tmp_path / file
    if file == "m.npz":
        np.savez(path, a=dense())
    elif file == "m.pt":
        torch.save({"a": torch.from_numpy(dense())}, path)
    else:
        path.write_bytes(save({"a": torch.from_numpy(dense())}))
    good = path.read_bytes()
    said = []
    for place in [*range(60), *range(len(good) - 140, len(good))]:
        bad = bytearray(good)
        bad[place] ^= 0xFF
        path.write_bytes(bytes(bad))
        try:
            read(path)
        except UserError as error:
            said.append(str(error))
    assert len(said) > 20
    assert not any("\n" in text for text in said)
