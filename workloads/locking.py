"""One writer a folder: a lock file in it, held while a command writes there.

The kernel's lock on the file counts (flock): a killed process loses it at once, whatever the file says, so that
repeating a killed command needs no cleaning up. The file's text only tells who the owner is. Where a file system has no
such locks the text is all there is: an owner that still runs on this host is obeyed, one that has ended is taken over,
one on another host cannot be looked up and is told."""

import errno
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workloads.errors import UserError
from workloads.files import LOCK_FILE, cannot_write_to, is_running, remove_leftovers

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_held = threading.local()  # .folders: those this thread has locked, so that what it calls may ask again


@contextmanager
def writing(folder: str | Path) -> Iterator[None]:
    """Within this context nobody else who asks writes to `folder`, which is made if absent; what killed writers left of
    unfinished files is removed first. An empty folder that was made here is removed at the end. Nested contexts of a
    thread are one. A folder in which this user can create no files is not locked: nothing can be written there either.

    Raises UserError naming the owner when another process, or thread, is writing there; and when the folder cannot be
    made."""
    folder = Path(folder).absolute()
    mine: set[Path] = _held.__dict__.setdefault("folders", set())
    key = folder.resolve()
    if key in mine:
        yield
        return
    made = not folder.exists()
    lock = _acquire(folder)
    if lock is None:
        yield
        return
    mine.add(key)
    try:
        remove_leftovers(folder)
        yield
    finally:
        mine.discard(key)
        with suppress(OSError):
            (
                folder / LOCK_FILE
            ).unlink()  # before it is let go: who waits for it finds that it is gone, and starts over
        os.close(lock)
        if made:
            with suppress(OSError):
                folder.rmdir()  # it stays if anything is in it


def _acquire(folder: Path) -> int | None:
    """The open lock file, which says who has it; None where no file can be created in the folder."""
    path = folder / LOCK_FILE
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except FileNotFoundError:  # its last owner has just removed the folder
            continue
        except OSError as error:
            if isinstance(error, FileExistsError) and (folder.is_dir() or not os.path.lexists(folder)):
                continue  # removed, and maybe made again, while mkdir looked at what is in its way
            if error.errno in CLOSED and folder.is_dir():
                return None
            raise cannot_write_to(folder, error) from None
        try:
            if not _locked(lock):
                raise in_use(folder, _owner(lock))
            if not _is_there(lock, path):  # removed by the owner that held it until now
                os.close(lock)
                continue
            os.ftruncate(lock, 0)
            os.pwrite(lock, json.dumps(_me()).encode(), 0)
        except BaseException as error:
            with suppress(OSError):
                os.close(lock)
            if isinstance(error, OSError):
                raise cannot_write_to(folder, error) from None
            raise
        return lock


def _locked(lock: int) -> bool:
    """Whether the lock file is now ours."""
    try:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    owner = _owner(lock)
    return not owner or (owner.get("host") == socket.gethostname() and not is_running(owner.get("pid")))


def _is_there(lock: int, path: Path) -> bool:
    """Whether the file at `path` is the one that is open."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return False
    opened = os.fstat(lock)
    return (found.st_dev, found.st_ino) == (opened.st_dev, opened.st_ino)


def _me() -> dict[str, Any]:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": f"{now} UTC"}


def _owner(lock: int) -> dict[str, Any]:
    """What a lock file says of its owner; {} if it says nothing."""
    try:
        said = json.loads(os.pread(lock, 4096, 0))
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def in_use(folder: Path, owner: dict[str, Any]) -> UserError:
    who = "process {pid} on {host}, since {since}".format_map({"pid": "?", "host": "?", "since": "?"} | owner)
    return UserError(
        f"{folder} is being written by another prunesim ({who}); wait until it ends or choose another folder"
        + (
            ""
            if owner.get("host") in (None, socket.gethostname())
            else f"; if it has ended, delete {folder / LOCK_FILE}"
        )
    )
