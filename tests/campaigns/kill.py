"""Kills commands while they write, repeats them, and compares every byte with a run that nobody disturbed.

A kill is a SIGKILL at the n-th change of the disk (a file opened to be written, renamed, removed, a folder made), so
that every moment between two changes can be met and a try can be repeated; or, one time in four, after a random time.
One kill in three also cuts the file that is about to be renamed, which is what a kill in the middle of writing leaves.
"""

import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.campaigns.forked import run
from tests.campaigns.inputs import copy_of, make_inputs

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")

_CALIBRATED = "--calibration ids.npy --samples 4 --seq-len 16 --out bundle"
JOBS = {  # name: (the command, inputs it needs)
    "run": ("run small.toml", ("model", "ids.npy", "text.txt", "small.toml")),
    "wanda": (f"prune model --method wanda --pattern 2:4 {_CALIBRATED} --save-model saved", ("model", "ids.npy")),
    "sparsegpt": (f"prune model --method sparsegpt --sparsity 0.5 --bits 4 --group-size 8 {_CALIBRATED}",
        ("model", "ids.npy")),
    "besa": (f"prune model --method besa --sparsity 0.5 --set epochs=1 {_CALIBRATED}", ("model", "ids.npy")),
    "gblm": (f"prune model --method gblm --sparsity 0.5 {_CALIBRATED}", ("model", "ids.npy")),
    "owl": (f"prune model --method wanda --sparsity 0.5 --allocation owl {_CALIBRATED}", ("model", "ids.npy")),
    "magnitude": ("prune model --method magnitude --sparsity 0.5 --out bundle --save-model saved", ("model",)),
    "finetune": ("finetune model --masks bundle --text ids.npy --seq-len 16 --steps 4 --batch 2 --held-out 0.3 "
        "--save-every 1 --patience 3 --out tuned --save-model saved", ("model", "bundle", "ids.npy")),
    "import": ("import masks.npz --out bundle", ("masks.npz",)),
    "import-checkpoint": ("import model --out bundle", ("model",)),
    "generate": ("generate --model shapes.json --density 0.5 --out bundle", ("shapes.json",)),
    "simulate": ("simulate bundle --on vitcod --tokens 3 --format csv --out rows.csv", ("bundle",)),
    "eval": ("eval model --masks bundle --text text.txt --seq-len 16 --format csv --out quality.csv",
        ("model", "bundle", "text.txt")),
    "report": ("report rows.csv --out report", ("rows.csv",)),
}  # fmt: skip


SMALL_STUDY = """title = "Small"
out = "study"
[[models]]
name = "tiny"
path = "model"
calibration = "ids.npy"
text = "text.txt"
eval_seq_len = 32
eval_windows = 2
[[methods]]
method = "magnitude"
sparsity = 0.5
[[methods]]
method = "wanda"
pattern = "2:4"
[[accelerators]]
name = "vitcod"
"""


@dataclass(frozen=True)
class Whole:
    """An undisturbed run: its files, how long it took and how often it changed the disk."""

    files: dict[str, bytes]
    seconds: float
    changes: int


def campaign(folder: Path, seed: int, tries: range, jobs: tuple[str, ...] = tuple(JOBS)) -> Iterator[tuple[str, str]]:
    """(what was tried, "" or what went wrong) of every try."""
    inputs = folder / "inputs"
    shutil.rmtree(inputs, ignore_errors=True)
    prepare(inputs)
    wholes: dict[str, Whole] = {}
    for number in tries:
        draw = random.Random(f"{seed}:{number}")
        job = jobs[number % len(jobs)]
        if job not in wholes:
            wholes[job] = undisturbed(job, inputs, folder / "whole")
        place = folder / "killed"
        shutil.rmtree(place, ignore_errors=True)
        kills, wrong = one_try(job, inputs, place, wholes[job], draw)
        yield f"{number} {job}: {', '.join(kills)}", wrong


def prepare(inputs: Path) -> None:
    """The inputs, and the bundle and rows that some commands read."""
    make_inputs(inputs)
    (inputs / "small.toml").write_text(SMALL_STUDY)
    for command in (
        "generate --model model --density 0.5 --seed 1 --out bundle",
        "simulate bundle --on vitcod --format csv --out rows.csv",
    ):
        ended = run(command.split(), inputs)
        assert ended.code == 0, ended.err
    shutil.rmtree(inputs / "bundle" / "statistics", ignore_errors=True)


def undisturbed(job: str, inputs: Path, folder: Path) -> Whole:
    shutil.rmtree(folder, ignore_errors=True)
    command, needed = JOBS[job]
    copy_of(inputs, folder, *needed)
    count = folder / "changes"
    ended = run(command.split(), folder, limit_s=300, before=lambda: count_changes(count))
    assert ended.code == 0, f"{command}: {ended.err}"
    changes = count.stat().st_size
    count.unlink()
    return Whole(files_of(folder), ended.seconds, changes)


def one_try(job: str, inputs: Path, folder: Path, whole: Whole, draw: random.Random) -> tuple[list[str], str]:
    """Kills the command up to three times, then lets it end. (the kills, "" or what went wrong)."""
    command, needed = JOBS[job]
    copy_of(inputs, folder, *needed)
    kills: list[str] = []
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        if draw.random() < 0.25:
            after_s = draw.uniform(0, whole.seconds)
            kills.append(f"{1000 * after_s:.0f} ms")
            run(command.split(), folder, kill_after_s=after_s)
        else:
            at, cut = draw.randrange(whole.changes), draw.random() < 0.33
            kills.append(f"change {at}{' cut' if cut else ''}")
            share = draw.random()
            run(command.split(), folder, limit_s=300, before=kill_at(at, share if cut else None))
    ended = run(command.split(), folder, limit_s=300)
    if ended.code != 0:
        return kills, f"repeating gave {ended.code}: {ended.err[-300:].strip()}"
    if "Traceback" in ended.err:
        return kills, "a traceback on stderr"
    found = files_of(folder)
    if found.keys() != whole.files.keys():
        return kills, f"files differ: {sorted(found.keys() ^ whole.files.keys())[:6]}"
    differing = [name for name, content in found.items() if content != whole.files[name]]
    return kills, f"contents differ: {differing[:6]}" if differing else ""


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "logs" not in path.relative_to(folder).parts[:1]
    }


def watch(changed: Callable[[str, tuple], None]) -> None:
    """Calls `changed` before every change of the disk that Python makes, but those of caches outside the current
    folder."""
    here = os.getcwd()

    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = flags & WRITES if isinstance(flags, int) else any(letter in (mode or "") for letter in "wax+")
            if not writes:
                return
        elif event not in CHANGES:
            return
        path = arguments[0]
        if isinstance(path, str | bytes | os.PathLike) and os.path.abspath(os.fsdecode(path)).startswith(here + os.sep):
            changed(event, arguments)

    sys.addaudithook(hook)


def count_changes(path: Path) -> None:
    """Adds a byte to `path` for every change."""
    counted = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    watch(lambda event, arguments: os.write(counted, b".") and None)


def kill_at(number: int, share: float | None) -> Callable[[], None]:
    """Kills this process at change `number`; where that is a renaming and `share` is given, the file is cut to that
    share first."""

    def install() -> None:
        seen = [0]

        def changed(event: str, arguments: tuple) -> None:
            seen[0] += 1
            if seen[0] <= number:
                return
            if event == "os.rename" and share is not None:
                path = os.fsdecode(arguments[0])
                seen[0] = -(1 << 60)
                os.truncate(path, int(share * os.path.getsize(path)))
            os.kill(os.getpid(), signal.SIGKILL)

        watch(changed)

    return install
