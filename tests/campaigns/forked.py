"""Runs commands in forks of this process, so that a try costs no interpreter and no imports."""

import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

MEMORY = 12 << 30  # bytes of address space a command may take: torch alone maps some


@dataclass(frozen=True)
class Ended:
    """How a command ended. code: None where it ran too long, -N where signal N ended it."""

    code: int | None
    out: str
    err: str
    seconds: float


WARM = (
    "cyclopts", "transformers.models.llama.modeling_llama", "studies.cli.main", "studies.running.study_run",
    "studies.measure", "studies.prune",
    "studies.evaluate", "studies.predict", "studies.masks", "reports", "pruning.allocations", "pruning.quantizers",
    *(f"studies.cli.{verb}_verb" for verb in ("eval", "formats", "generate", "import", "predict", "prune", "report",
        "run", "simulate")),
)  # fmt: skip


def warm() -> None:
    """Imports what commands import, once for all forks; nothing is run here, so that no thread is there to be lost."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import torch

    torch.set_num_threads(1)
    for name in WARM:
        import_module(name)


def run(
    arguments: Sequence[str],
    folder: Path,
    limit_s: float = 60,
    before: Callable[[], None] | None = None,
    kill_after_s: float | None = None,
) -> Ended:
    """`prunesim arguments` in `folder`; logs of faults go to folder/logs. `before` is called in the fork first."""
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    outputs = [folder / "logs" / name for name in ("stdout", "stderr")]
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _command(arguments, folder, outputs, before)
    limit = began + (limit_s if kill_after_s is None else kill_after_s)
    code = None
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            break
        if time.monotonic() > limit:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        time.sleep(0.002)
    out, err = (path.read_text(encoding="utf-8", errors="replace") for path in outputs)
    return Ended(code, out, err, time.monotonic() - began)


def _command(arguments: Sequence[str], folder: Path, outputs: list[Path], before: Callable[[], None] | None) -> None:
    """In the fork; never returns."""
    code = 99
    try:
        os.chdir(folder)
        os.environ["TMPDIR"] = str(folder / "logs")
        import tempfile

        tempfile.tempdir = None
        for number, path in zip((1, 2), outputs, strict=True):
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(opened, number)
            os.close(opened)
        nowhere = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nowhere, 0)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        from studies.cli.main import main

        if before is not None:
            before()
        try:
            main(list(arguments))
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
