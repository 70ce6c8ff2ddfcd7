"""How commands end: exit codes, one line, closed and full streams, a log for our own faults."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from studies.cli import main as cli
from studies.cli.main import main
from workloads import UserError


def ended(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return int(stop.value.code or 0)


def raising(monkeypatch, error: BaseException) -> None:
    def fails(arguments):
        raise error

    monkeypatch.setattr(cli, "run", fails)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("too\nmany  lines"), 2, "prunesim: too many lines"),
        (MemoryError(), 2, "out of memory"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
            2,
            "out of memory",
        ),
        (OSError(28, "No space left on device", "a/b"), 2, "a/b: the disk is full"),
        (PermissionError(13, "Permission denied", "x"), 2, "x: Permission denied"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_a_user_can_mend_is_one_line(monkeypatch, capsys, error, code, said):
    raising(monkeypatch, error)
    assert ended("ls", "models") == code
    assert said in capsys.readouterr().err.strip().splitlines()[-1]


def test_our_own_fault_is_one_line_and_a_log_with_the_traceback(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    raising(monkeypatch, KeyError("lost\nkey"))
    assert ended("ls", "mod\udc80els") == 1
    (line,) = capsys.readouterr().err.splitlines()
    (log,) = tmp_path.iterdir()
    assert str(log) in line
    assert "Traceback" not in line
    text = log.read_text()
    assert "Traceback" in text
    assert "KeyError" in text
    assert "'ls'" in text


def test_a_fault_is_told_where_no_log_can_be_written(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    raising(monkeypatch, KeyError("lost"))
    assert ended("ls") == 1
    assert "no log could be written" in capsys.readouterr().err


@pytest.mark.parametrize("threads", ["abc", "-1", "1.5", "²"])
def test_threads_that_are_no_number_are_refused(monkeypatch, capsys, threads):
    monkeypatch.setenv("PRUNESIM_THREADS", threads)
    assert ended("ls", "models") == 2
    assert f"PRUNESIM_THREADS={threads}" in capsys.readouterr().err


def test_null_bytes_in_arguments_are_refused(capsys):
    assert ended("check", "a\0b") == 2
    assert "null byte" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("streams", "code", "said"),
    [
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        (">/dev/full", 2, "the disk is full"),
        ("| true", 141, ""),
    ],
)
def test_closed_and_full_streams(streams, code, said):
    root = Path(__file__).parents[2]
    script = f"{sys.executable} -c 'from studies.cli.main import main; main()' ls models {streams}"
    script += "; exit ${PIPESTATUS[0]}"

    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(root)}, check=False
    )
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == bool(said)
