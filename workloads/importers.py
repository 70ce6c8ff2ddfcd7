"""Masks made elsewhere: a folder of .npy files or one .npz become layers."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from workloads.arrays import load_arrays, load_member
from workloads.errors import UserError
from workloads.layers import Layer
from workloads.mask import PackedMask


def read_mask(path: Path) -> PackedMask:
    """One .npy mask (out_features, in_features), boolean or 0/1, 1 = kept. Raises UserError naming the file."""
    array = _load(path)
    if isinstance(array, np.lib.npyio.NpzFile):
        array.close()
        raise UserError(f"{path} is an .npz archive; give one .npy mask")
    return _checked(array, str(path))


def read_array_masks(path: Path) -> Iterator[tuple[Layer, PackedMask]]:
    """Masks of a folder of .npy files (file stem = layer name) or of one .npz (key = layer name), in natural order.

    Roles and block numbers come from the names, as in "model.layers.3.self_attn.q_proj"; read one array at a time.
    """
    if path.is_dir():
        files = sorted(sorted(path.glob("*.npy")), key=lambda file: natural(file.stem))
        if not files:
            raise UserError(f"{path} holds no .npy masks; save one (out_features, in_features) array a layer")
        for file in files:
            yield _named(file.stem, read_mask(file))
    else:
        archive = _load(path)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise UserError(f"{path} is neither a folder of .npy masks nor an .npz file")
        with archive:
            if not archive.files:
                raise UserError(f"{path} holds no masks; save one (out_features, in_features) array a layer")
            for name in sorted(archive.files, key=natural):
                yield _named(name, _checked(load_member(archive, name, path), f"{path}: {name}"))


def natural(name: str) -> list[tuple[int, str | int]]:
    """Sort key that puts layer 10 after layer 9."""
    return [(1, int(part)) if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def block_of(name: str) -> int:
    """The first part of a dotted layer name that is a number, -1 if there is none."""
    match = re.search(r"(?:^|\.)(\d+)(?:\.|$)", name)
    return int(match[1]) if match else -1


def _named(name: str, mask: PackedMask) -> tuple[Layer, PackedMask]:
    from workloads.roles import role_of

    name = name.removesuffix(".weight")
    return Layer(name, role_of(name), block_of(name), mask.rows, mask.cols), mask


def _load(path: Path) -> Any:
    """The array of an .npy file, or an open NpzFile."""
    if not path.exists():
        raise UserError(f"no such mask file: {path}")
    return load_arrays(path)


def _checked(array: np.ndarray, where: str) -> PackedMask:
    try:
        return PackedMask.from_dense(array)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
