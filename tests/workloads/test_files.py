"""Files appear whole or not at all."""

import errno
import hashlib
import math
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from workloads.errors import UserError
from workloads.files import (
    canonical_json,
    check_writable_folder,
    plain,
    pretty_json,
    read_json,
    replacing,
    sha256_of,
    sha256_of_file,
    unfinished_name,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_replacing_makes_folders_and_shows_the_file_at_the_end_only(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.txt"
    with replacing(path) as part:
        part.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(path.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_an_exception_leaves_the_old_file_and_no_rubbish(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def half() -> None:
        with replacing(path) as part:
            part.write_text("ne")
            raise error

    with pytest.raises(type(error)):
        half()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_failing_rename_is_a_user_error_and_the_old_file_stays(tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "file.txt").write_text("old")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match=r"cannot write .*file.txt: No space left on device; .*free some space"):
        write_text(tmp_path / "file.txt", "new")
    assert (tmp_path / "file.txt").read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


@contextmanager
def small_disk() -> Iterator[None]:
    """Files of this process end at 4096 bytes, as on a disk that runs full; only while the test itself runs, because
    the test runner's own output may be a longer file."""
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_write_that_really_fails(tmp_path: Path) -> None:
    def save_tensors() -> None:
        with replacing(tmp_path / "x.safetensors") as part:
            save_file({"a": np.zeros(100_000, np.uint8)}, part)

    with pytest.raises(UserError, match=r"cannot write .*x\.txt: File too large; choose"), small_disk():
        write_text(tmp_path / "x.txt", "x" * 100_000)
    with pytest.raises(UserError, match=r"cannot write .*x\.safetensors: .*File too large"), small_disk():
        save_tensors()
    assert names(tmp_path) == []


def test_safetensors_files_get_the_permissions_of_other_files(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with replacing(tmp_path / "tensors") as part:
        save_file({"a": np.zeros(3)}, part)
    assert (tmp_path / "tensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_targets_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "x.txt", tmp_path / "folder"):
        with pytest.raises(UserError, match=f"cannot write {path}: ") as caught:
            write_text(path, "new")
        assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["file", "folder"]


def test_the_content_is_on_the_disk_before_the_name(tmp_path: Path, monkeypatch) -> None:
    """fsync of the part, the rename, fsync of the folder, in this order."""
    seen: list[str] = []
    fsync, rename = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        seen.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).suffix)
        fsync(descriptor)

    def renamed(*names: object) -> None:
        seen.append("renamed")
        rename(*names)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    write_text(tmp_path / "file.txt", "new")
    assert seen == [".part", "renamed", ""]


def test_two_writers_of_one_file_do_not_share_a_part(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert names(tmp_path) == ["file.txt"]


def test_names_as_long_as_a_file_system_takes(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 127)
    write_text(path, "new")
    assert path.read_text() == "new"


def test_check_writable_folder(tmp_path: Path) -> None:
    check_writable_folder(tmp_path / "new" / "deep")
    assert names(tmp_path / "new" / "deep") == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to .*file: .*choose another folder"):
        check_writable_folder(tmp_path / "file")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1,]"])
def test_broken_json(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError, match=r"what: .*x\.json is not valid JSON") as caught:
        read_json(tmp_path / "x.json", "what")
    assert "\n" not in str(caught.value)


def test_absent_json(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="what: no such file"):
        read_json(tmp_path / "x.json", "what")
    with pytest.raises(UserError, match="what: cannot read"):
        read_json(tmp_path, "what")


def test_json_texts(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None], "a": "é\n"}
    assert canonical_json(value) == '{"a":"\\u00e9\\n","b":[1,2.5,null]}'
    write_text(tmp_path / "x.json", pretty_json(value))
    assert read_json(tmp_path / "x.json", "what") == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(math.nan)


def test_plain_is_what_json_brings_back() -> None:
    value = {"a": (1, (2, 3)), 4: {"x": [True, None, "t"]}, "inf": -math.inf, "nan": math.nan}
    want = {"a": [1, [2, 3]], "4": {"x": [True, None, "t"]}, "inf": "-inf", "nan": "nan"}
    assert plain(value) == want


def test_hashes(tmp_path: Path) -> None:
    assert sha256_of({"b": 1, "a": 2}) == sha256_of({"a": 2, "b": 1}) == hashlib.sha256(b'{"a":2,"b":1}').hexdigest()
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of_file(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()


def test_parts_of_killed_processes_are_removed_when_their_file_is_written_again(tmp_path):
    with subprocess.Popen(["true"]) as ended:
        pass
    part = unfinished_name(tmp_path / "rows.csv").name  # of this process, which runs
    start, host = part[:-17], part[-17:-13]
    dead = f"{start}{host}{ended.pid:06x}00.part"
    other_host = f"{start}{'0000' if host != '0000' else '1111'}{ended.pid:06x}00.part"
    kept = [part, other_host, ".rows.csv.part", dead.replace("rows", "other")]
    for name in (dead, *kept):
        (tmp_path / name).write_text("")
    write_text(tmp_path / "rows.csv", "x")
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*kept, "rows.csv"])
