"""Arrays from elsewhere: what they claim is checked against what they hold before anything is allocated."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from workloads import UserError
from workloads.arrays import load_arrays, load_member
from workloads.importers import read_arrays, read_mask


def npy(shape: tuple[int, ...], descr: str = "|u1", body: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """An .npy file whose header says `shape`, whatever follows."""
    stream = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    write = np.lib.format.write_array_header_2_0 if version == (2, 0) else np.lib.format.write_array_header_1_0
    write(stream, header)
    return stream.getvalue() + body


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_ordinary_files_are_read(tmp_path, version):
    (tmp_path / "a.npy").write_bytes(npy((2, 3), body=b"\1\0\1\0\0\1", version=version))
    assert load_arrays(tmp_path / "a.npy").tolist() == [[1, 0, 1], [0, 0, 1]]
    assert load_arrays(tmp_path / "a.npy", "r").sum() == 3
    assert read_mask(tmp_path / "a.npy").nnz == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (npy((10**15,)), r"1,000,000,000,000,000 bytes; 0 follow"),
        (npy((10**6, 10**12), body=b"x"), "1 follow"),
        (npy((2, 3), body=b"abcde"), "6 bytes; 5 follow"),
        (npy((-1, 3), body=b"abc"), "shape is"),
        (npy((1,), "|O", pickle.dumps([1])), "objects"),
        (pickle.dumps({"a": 1}), "neither"),
        (b"", "neither"),
        (b"\x93NUMPY", "readable"),
        (b"\x93NUMPY\x09\x00\x00\x00", "version 9.0"),
        (b"\x93NUMPY\x01\x00\x80\x00" + b"(" * 127 + b"\n", "readable"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr': '|u1'}", "readable"),
        (b"PK\x03\x04broken", "readable"),
    ],
)
def test_headers_that_do_not_hold_are_one_line(tmp_path, content, said):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        load_arrays(path)
    assert "\n" not in str(error.value)
    assert "pickle" not in str(error.value)


def test_an_archive_that_unpacks_to_far_more_than_it_is_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("l.npy", "w", force_zip64=True) as member,
    ):
        member.write(npy((1 << 14, 1 << 15)))
        for _ in range(512):
            member.write(bytes(1 << 20))
    with pytest.raises(UserError, match=r"unpack to 536,871,040, more than 200 times"):
        load_arrays(path)


def test_an_array_in_an_archive_that_says_more_than_it_holds(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.layers.0.q_proj.npy", npy((10**8, 10**7), body=b"abc"))
        archive.writestr("notes.txt", b"no array")
    with pytest.raises(UserError, match="3 follow"):
        list(read_arrays([path]))
    opened = load_arrays(path)
    assert isinstance(opened, np.lib.npyio.NpzFile)
    with pytest.raises(UserError, match="notes"):
        load_member(opened, "notes.txt", path)
