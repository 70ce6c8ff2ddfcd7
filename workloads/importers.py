"""Masks made elsewhere: a folder of .npy files, or .npz archives, become matrices."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workloads.arrays import load_arrays, load_member
from workloads.errors import UserError
from workloads.layers import Layer
from workloads.mask import PackedMask


@dataclass(frozen=True)
class Matrix:
    """One matrix of a source: its name there, and what is not zero. `told`: the source itself says what is kept, as
    weights and bitmaps do; zeros and ones do not. `layer`: where the source is a model, which of its layers this is.
    `grid`: (bits, inputs that share a scale) of weights that are stored in codes."""

    name: str
    mask: PackedMask
    told: bool = False
    layer: Layer | None = None
    grid: tuple[int, int] | None = None


def read_mask(path: Path) -> PackedMask:
    """One .npy mask (out_features, in_features), boolean or 0/1, 1 = kept. Raises UserError naming the file."""
    array = _load(path)
    if isinstance(array, np.lib.npyio.NpzFile):
        array.close()
        raise UserError(f"{path} is an .npz archive; give one .npy mask")
    return _checked(array, str(path))


def read_arrays(files: Sequence[Path]) -> Iterator[Matrix]:
    """The matrices of .npy files (file stem = name) and .npz archives (key = name), each in natural order, one in
    memory at a time.

    Raises UserError for what `matrices_of` refuses, for empty archives and for unreadable files.
    """
    for file in sorted(sorted(files), key=lambda file: natural(file.stem)):
        content = _load(file)
        if not isinstance(content, np.lib.npyio.NpzFile):
            yield from matrices_of(file.stem, content, str(file))
            continue
        with content:
            if not content.files:
                raise UserError(f"{file} holds no masks; save one (out_features, in_features) array a layer")
            for name in sorted(content.files, key=natural):
                yield from matrices_of(name, load_member(content, name, file), f"{file}: {name}")


def matrices_of(name: str, array: np.ndarray, where: str) -> Iterator[Matrix]:
    """A matrix of 0 and 1, or of weights, of which those that are not zero are kept. A stack (experts, out, in) is its
    matrices, NAME.0 and so on. Raises UserError for other shapes and values, and for weights that are no numbers."""
    if array.ndim == 3 and "experts" in name.split("."):
        for number, matrix in enumerate(array):
            yield from matrices_of(f"{name}.{number}", matrix, f"{where}[{number}]")
        return
    told = False
    if array.dtype.kind == "f" and array.ndim == 2 and not ((array == 0) | (array == 1)).all():
        bad = np.count_nonzero(~np.isfinite(array))
        if bad:
            raise UserError(f"{where}: {bad} of {array.size} weights are NaN or Inf; repair it")
        array, told = array != 0, True
    yield Matrix(name, _checked(array, where), told)


def natural(name: str) -> list[tuple[int, str | int]]:
    """Sort key that puts layer 10 after layer 9."""
    return [
        (1, int(part)) if part.isdecimal() and part.isascii() else (0, part)
        for part in re.split(r"([0-9]{1,18})", name)
    ]


def block_of(name: str) -> int:
    """The first part of a dotted layer name that is a number, -1 if there is none."""
    match = re.search(r"(?:^|\.)([0-9]{1,9})(?:\.|$)", name)
    return int(match[1]) if match else -1


def _load(path: Path) -> np.ndarray | np.lib.npyio.NpzFile:
    """The array of an .npy file, or an open NpzFile."""
    if not path.exists():
        raise UserError(f"no such mask file: {path}")
    return load_arrays(path)


def _checked(array: np.ndarray, where: str) -> PackedMask:
    try:
        return PackedMask.from_dense(array)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
