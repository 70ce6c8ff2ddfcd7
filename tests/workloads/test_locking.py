"""One writer a folder."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from workloads import locking
from workloads.errors import UserError
from workloads.files import LOCK_FILE, is_leftover, unfinished_name
from workloads.locking import writing

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from workloads.locking import writing
with writing(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen]:
    """Another process that writes to `folder` until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_second_process_is_refused_and_told_who_writes(tmp_path: Path) -> None:
    with holder(tmp_path / "out") as other:
        with pytest.raises(UserError) as caught, writing(tmp_path / "out"):
            pass
        message = str(caught.value)
        assert f"{tmp_path / 'out'} is being written by another prunesim (process {other.pid} on " in message
        assert "choose another folder" in message
        assert "\n" not in message
        other.communicate("go on\n")
        assert other.returncode == 0
    assert not (tmp_path / "out").exists()  # made for nothing, so gone again
    with writing(tmp_path / "out"):
        assert names(tmp_path / "out") == [LOCK_FILE]


def test_a_killed_owner_is_taken_over_and_its_parts_are_removed(tmp_path: Path) -> None:
    with holder(tmp_path) as other:
        part = unfinished_name(tmp_path / "masks-00000.safetensors")
        part.write_bytes(b"half")
        (tmp_path / ".notes.part").write_text("the user's own")
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == other.pid
    with writing(tmp_path):
        owner = json.loads((tmp_path / LOCK_FILE).read_text())
        assert (owner["pid"], owner["host"]) == (os.getpid(), socket.gethostname())
        assert names(tmp_path) == [".notes.part", LOCK_FILE]
    assert names(tmp_path) == [".notes.part"]


def test_what_a_writer_calls_may_ask_again_but_another_thread_may_not(tmp_path: Path) -> None:
    refused: list[str] = []

    def other() -> None:
        try:
            with writing(tmp_path):
                pass
        except UserError as error:
            refused.append(str(error))

    with writing(tmp_path):
        with writing(tmp_path / ".." / tmp_path.name):
            pass
        assert (tmp_path / LOCK_FILE).exists()
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        with writing(tmp_path / "deeper"):  # other folders are other folders
            pass
    assert len(refused) == 1
    with writing(tmp_path):
        pass


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_the_lock_ends_with_the_block_however_it_ends(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), writing(tmp_path / "new" / "deep"):
        raise error
    assert not (tmp_path / "new" / "deep").exists()


def test_contents_stay(tmp_path: Path) -> None:
    with writing(tmp_path / "new"):
        (tmp_path / "new" / "file").write_text("x")
    assert names(tmp_path / "new") == ["file"]


def test_many_at_once_leave_one_owner_at_a_time(tmp_path: Path) -> None:
    """Threads take and leave the lock, and with it the folder, while others wait for both."""
    inside, seen, done = [0], [], threading.Event()

    def work() -> None:
        taken = 0
        while taken < 20 and not done.is_set():
            try:
                with writing(tmp_path / "out"):
                    inside[0] += 1
                    seen.append(inside[0])
                    inside[0] -= 1
                    taken += 1
            except UserError as error:
                if "being written" not in str(error):
                    seen.append(-1)
                    done.set()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 80


def test_without_locks_of_the_kernel_the_text_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "fcntl", None)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lock = tmp_path / LOCK_FILE
    lock.write_text(json.dumps({"pid": ended.pid, "host": socket.gethostname(), "since": "yesterday"}))
    with writing(tmp_path):
        pass
    lock.write_text(json.dumps({"pid": os.getppid(), "host": socket.gethostname(), "since": "yesterday"}))
    with pytest.raises(UserError, match="being written by another prunesim"), writing(tmp_path):
        pass
    lock.write_text(json.dumps({"pid": 1, "host": "elsewhere", "since": "yesterday"}))
    with pytest.raises(UserError, match=f"on elsewhere, since yesterday.*delete {lock}"), writing(tmp_path):
        pass


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"pid": "x"}', "\0" * 10])
def test_any_text_in_the_lock_file_of_a_dead_owner_will_do(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK_FILE).write_text(text)
    with writing(tmp_path):
        pass
    assert names(tmp_path) == []


def test_places_that_are_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file", tmp_path / "file" / "deep"):
        with pytest.raises(UserError, match=f"cannot write to {place}: .*choose another folder"), writing(place):
            pass
    (tmp_path / LOCK_FILE).mkdir()
    with pytest.raises(UserError, match="cannot write to"), writing(tmp_path):
        pass


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        (LOCK_FILE, True), (".prunesim-probe", True), (".rows.csv.0123456789ab.part", True),
        (".bundle.json.part", True),
        (".pruned-from.json.part", True), (".hidden-00002.safetensors.part", True), ("bundle.json", False),
        (".model-00001-of-00003.safetensors.part", True), (".notes.part", False), ("thesis.part", False),
        (".git", False),
    ],
)  # fmt: skip
def test_leftovers_are_known_by_name(name: str, ours: bool) -> None:
    assert is_leftover(name) == ours


def test_what_the_safetensors_library_left_behind_is_nobodys_work(tmp_path):
    """Its own unfinished files, .tmp and six letters, go with ours when the next owner comes."""
    left = tmp_path / ".tmp86KR7L"
    left.write_bytes(b"half")
    assert is_leftover(left.name)
    assert not is_leftover(".tmpfiles")
    with writing(tmp_path):
        assert not left.exists()
