"""Files that are either whole or absent: write to a temporary name, then rename."""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from workloads.errors import UserError, one_line
from workloads.parsing import parse_json


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` when the block ends well, removes it otherwise.

    The file gets the usual permissions, whatever wrote it (safetensors makes files only their owner can read).
    Raises UserError naming the file when the folder cannot be written or the disk is full.
    """
    if path.is_symlink():
        path = path.resolve()
    if path.exists() and not path.is_file() and not path.is_dir():  # a device or a pipe: nothing to replace
        try:
            yield path
        except OSError as error:
            raise cannot_write(path, error) from error
        return
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        mode = part.stat().st_mode
        yield part
        part.chmod(mode)
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        raise cannot_write(path, error) from error
    finally:
        if part.parent.is_dir():
            part.unlink(missing_ok=True)


def cannot_write(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(getattr(error, "strerror", None) or error).split())
    return UserError(f"cannot write {path}: {reason}; choose another folder or free some space")


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
    probe = folder / ".prunesim-probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}; choose another folder") from None
