"""Files that are either whole or absent: write to a temporary name, bring it to the disk, then rename."""

import hashlib
import json
import math
import os
import re
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from workloads.errors import UserError, one_line
from workloads.parsing import parse_json

_NUMBERS = count()
LOCK_FILE = ".prunesim-lock"  # see locking.py
UNFINISHED = re.compile(r"\..*\.([0-9a-f]{4})([0-9a-f]{6})[0-9a-f]{2}\.part")  # see unfinished_name
OLD_PART = re.compile(r"\.[a-z]+(-[a-z]+|-\d+(-of-\d+)?)?\.(json|safetensors)\.part")  # by earlier versions

WRITING = re.compile(r"\.tmp[A-Za-z0-9]{6}")  # by the safetensors library, until its file is whole


def is_leftover(name: str) -> bool:
    """Whether a file of that name is nobody's work: a lock, a probe, or a part of what a killed command was writing."""
    return name in (LOCK_FILE, ".prunesim-probe") or any(
        kind.fullmatch(name) for kind in (UNFINISHED, OLD_PART, WRITING)
    )


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` when the block ends well, removes it otherwise.

    The temporary name is nobody else's, so that of two writers the last one's file stays, whole. durable: the content
    is on the disk before the name is, so that a power cut leaves the old file or the new one; of a file that readers
    check and can do without it may be left out. The file gets the usual permissions, whatever wrote it (safetensors
    makes files only their owner can read). Raises UserError naming the file when the folder cannot be written or the
    disk is full."""
    if path.is_symlink():
        path = path.resolve()
    if path.exists() and not path.is_file() and not path.is_dir():  # a device or a pipe: nothing to replace
        try:
            yield path
        except OSError as error:
            raise cannot_write(path, error) from error
        return
    part = unfinished_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_dead_parts(path)
        part.touch()
        mode = part.stat().st_mode
        yield part
        part.chmod(mode)
        if durable:
            sync(part)
        os.replace(part, path)
        if durable:
            sync_folder(path.parent)
    except (OSError, SafetensorError) as error:
        raise cannot_write(path, error) from error
    finally:
        if part.parent.is_dir():
            part.unlink(missing_ok=True)


def unfinished_name(path: Path) -> Path:
    """A name beside `path` that no other writer has, for a file until it is whole: the host, the process and a number
    of its own, in hexadecimal; long names are cut, so that it still fits."""
    return path.with_name(f"{_part_start(path)}{_host()}{os.getpid() & 0xFFFFFF:06x}{next(_NUMBERS) & 0xFF:02x}.part")


def _part_start(path: Path) -> str:
    return f".{os.fsdecode(os.fsencode(path.name)[:200])}."


@cache
def _host() -> str:
    return hashlib.sha256(os.fsencode(socket.gethostname())).hexdigest()[:4]


def remove_dead_parts(path: Path) -> None:
    """Deletes what killed processes of this host left of writing `path`."""
    start = _part_start(path)
    names: list[str] = []
    with suppress(OSError):  # a folder that may be written, but not listed
        names = os.listdir(path.parent)
    for name in names:
        found = UNFINISHED.fullmatch(name) if name.startswith(start) else None
        if found and found[1] == _host() and not is_running(int(found[2], 16)):
            with suppress(OSError):
                path.with_name(name).unlink()


def is_running(process: Any) -> bool:
    """Whether a process of this host is running."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, TypeError, OverflowError):
        return False
    except OSError:
        return True  # of another user
    return True


def sync(path: Path) -> None:
    """Brings a file's content to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Brings the names in a folder to the disk, where the system can."""
    with suppress(OSError):  # some file systems, and Windows, sync no folders
        sync(folder)


def remove_leftovers(folder: Path) -> None:
    """Deletes the parts that killed writers left in a folder; only its owner may (see locking.py)."""
    for file in folder.iterdir():
        if UNFINISHED.fullmatch(file.name) or WRITING.fullmatch(file.name):
            with suppress(OSError):
                file.unlink()


def cannot_write(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(getattr(error, "strerror", None) or error).split())
    return UserError(f"cannot write {path}: {reason}; choose another folder or free some space")


def cannot_write_to(folder: Path, error: OSError) -> UserError:
    return UserError(f"cannot write to {folder}: {error.strerror or error}; choose another folder")


def write_bytes(path: Path, content: bytes) -> None:
    with replacing(path) as part:
        part.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    write_bytes(path, utf8(content).encode())


def utf8(text: str) -> str:
    """`text` with what no UTF-8 file can hold, the odd bytes of a file's name, as \\udcXX in letters."""
    return text.encode("utf-8", "backslashreplace").decode()


def plain(value: Any) -> Any:
    """`value` as JSON would bring it back: lists for tuples, text keys, text for the floats JSON lacks ("inf"), no half
    surrogates."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return utf8(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def canonical_json(value: Any) -> str:
    """The same text for equal values, whatever the order of keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def pretty_json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path, what: str) -> Any:
    """Parsed JSON; UserError (naming `what`) when the file is absent or broken."""
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{what}: no such file: {path}") from None
    except OSError as error:
        raise UserError(f"{what}: cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{what}: {path} is not valid JSON: {one_line(error)}") from None


def sha256_of(value: Any) -> str:
    """Hash of a JSON-like value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def sha256_of_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_writable_folder(folder: Path) -> None:
    """Raises UserError unless files can be created in `folder` (made if absent)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # it has no name, or loses it at once: a kill leaves nothing
            pass
    except OSError as error:
        raise cannot_write_to(folder, error) from None
