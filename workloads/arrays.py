""".npy and .npz files that somebody else wrote: never unpickled, and nothing is allocated before the file is seen to
hold it."""

import math
import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO, Literal

import numpy as np

from workloads.errors import UserError, one_line

MAX_INFLATION = 200  # a random 0/1 array of bytes packs 8:1, one of doubles about 60:1
ALWAYS_UNPACKED = 1 << 28  # bytes: archives that unpack to no more may be as empty as they like
# What numpy raises on files that are damaged, cut off or of another kind.
UNREADABLE = (
    OSError, ValueError, EOFError, RuntimeError, KeyError, MemoryError, SyntaxError, TokenError, TypeError,
    OverflowError,
    NotImplementedError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_NPY, _ZIP = b"\x93NUMPY", b"PK"


def load_arrays(path: Path, mmap_mode: Literal["r"] | None = None) -> np.ndarray | np.lib.npyio.NpzFile:
    """The array of an .npy file, or an open archive, decided by content. Raises UserError, one line, for anything else,
    for a file that is shorter than its header says, and for an archive that unpacks to far more than it is."""
    try:
        with path.open("rb") as stream:
            start = stream.read(len(_NPY))
            stream.seek(0)
            if start == _NPY:
                check_header(stream, path.stat().st_size)
            elif start.startswith(_ZIP):
                check_inflation(path)
            else:
                raise ValueError("it holds neither one array nor an archive of arrays")
        return np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"no such file of arrays: {path}") from None
    except UNREADABLE as error:
        raise UserError(f"{path} is not a readable .npy or .npz file: {one_line(error)}; save it again") from None


def dimensions(path: Path) -> int:
    """Of the array of an .npy file, 2 for an archive. Raises UserError as load_arrays."""
    array = load_arrays(path, "r")
    if isinstance(array, np.ndarray):
        return array.ndim
    array.close()
    return 2


def load_member(archive: np.lib.npyio.NpzFile, name: str, path: Path) -> np.ndarray:
    """One array of an archive. Raises UserError as load_arrays."""
    try:
        files = archive.zip
        assert files is not None
        member = f"{name}.npy" if f"{name}.npy" in files.namelist() else name
        with files.open(member) as stream:
            check_header(stream, files.getinfo(member).file_size)  # type: ignore[arg-type]
        return archive[name]
    except UNREADABLE as error:
        raise UserError(f"{path}: {name} cannot be read: {one_line(error)}; save it again") from None


def check_header(stream: BinaryIO, size: int) -> None:
    """Raises ValueError unless what follows the header of an .npy stream of `size` bytes is what the header says."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version in ((2, 0), (3, 0)):  # 3.0: UTF-8 in place of Latin-1, which are alike for arrays of numbers
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"it is of format version {version[0]}.{version[1]}, of which no mask and no list of ids is")
    if dtype.hasobject:
        raise ValueError("it holds Python objects, not numbers")
    if any(length < 0 for length in shape):
        raise ValueError(f"its shape is {shape}")
    said, held = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if said > held:
        raise ValueError(f"its header says {dtype} of shape {shape}, {said:,} bytes; {held:,} follow")


def check_inflation(path: Path) -> None:
    """Raises ValueError for an archive that unpacks to more than MAX_INFLATION times its size."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    size = path.stat().st_size
    if unpacked > ALWAYS_UNPACKED and unpacked > MAX_INFLATION * size:
        raise ValueError(
            f"its {size:,} bytes unpack to {unpacked:,}, more than {MAX_INFLATION} times as many (if that is meant, "
            "save the arrays as .npy files)"
        )
