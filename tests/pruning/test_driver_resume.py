"""A pruning run killed anywhere ends, when repeated, in the same bytes as one that was not."""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from checkpoints.checkpoint import Checkpoint
from pruning.run import calibrated
from pruning.run.driver import prune
from tests.pruning.contract import FEW, Case
from tests.pruning.recipes import recipe
from tests.thinned import thinned
from validation.conformance.tiny_models import contents, quiet, save
from workloads.bundle_writer import BundleWriter
from workloads.errors import UserError

BLOCKS = 3


class Killed(BaseException):
    """Like KeyboardInterrupt: nothing may catch it."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llama", tmp_path_factory.mktemp("llama"), shard_size="30KB", num_hidden_layers=BLOCKS)


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """The bytes of runs nobody killed."""
    runs = {}
    for case in FEW:
        folder = tmp_path_factory.mktemp("whole")
        prune(Checkpoint(model), case.recipe(), folder, quiet, quiet)
        runs[case.name] = contents(folder)
    return runs


@pytest.mark.parametrize(("case", "block"), thinned(FEW, range(BLOCKS), every=2))
def test_killed_when_a_block_starts(case: Case, block: int, model: Path, whole, tmp_path: Path) -> None:
    started = []

    def kill(what: str, done: int, of: int) -> None:
        if what == "pruning":
            assert of == BLOCKS
            started.append(done)
            if done == block:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune(Checkpoint(model), case.recipe(), tmp_path, kill, quiet)
    assert not (tmp_path / "bundle.json").exists()
    assert started == list(range(block + 1))
    prune(Checkpoint(model), case.recipe(), tmp_path, quiet, quiet)
    assert contents(tmp_path) == whole[case.name]


@pytest.mark.parametrize(
    ("case", "step"),
    thinned(
        [case for case in FEW if case.method == "gblm" or "allocation" in case.settings], range(2 * BLOCKS), every=2
    ),
)
def test_killed_before_the_first_block(case: Case, step: int, model: Path, whole, tmp_path: Path) -> None:
    """While gradients are gathered or sparsity is allocated; the repeated run does not start those over from
    nothing."""
    steps = []

    def kill(what: str, done: int, of: int) -> None:
        if what in ("gradients", "allocating"):
            steps.append(done)
            if len(steps) == step + 1:
                raise Killed

    with suppress(Killed):  # allocating takes fewer steps
        prune(Checkpoint(model), case.recipe(), tmp_path, kill, quiet)
    prune(Checkpoint(model), case.recipe(), tmp_path, quiet, quiet)
    assert contents(tmp_path) == whole[case.name]


def test_gradients_of_other_settings_are_not_taken(model: Path, tmp_path: Path) -> None:
    def kill(what: str, done: int, of: int) -> None:
        if what == "pruning":
            raise Killed

    with pytest.raises(Killed):
        prune(Checkpoint(model), recipe("gblm", norm="l1"), tmp_path, kill, quiet)
    with pytest.raises(UserError, match="unfinished run with other settings"):
        prune(Checkpoint(model), recipe("gblm", norm="l2"), tmp_path, quiet, quiet)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_killed_right_after_a_block_was_written(
    block: int, model: Path, whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hidden states are still on disk then, and must not stay there."""
    commit, calls = BundleWriter.commit, []

    def commit_and_die(self: BundleWriter) -> None:
        commit(self)
        calls.append(1)
        if len(calls) == block + 1:
            raise Killed

    monkeypatch.setattr(BundleWriter, "commit", commit_and_die)
    with pytest.raises(Killed):
        prune(Checkpoint(model), recipe("wanda", 0.3), tmp_path, quiet, quiet)
    monkeypatch.undo()
    prune(Checkpoint(model), recipe("wanda", 0.3), tmp_path, quiet, quiet)
    assert contents(tmp_path) == whole["wanda"]


def test_killed_before_the_masks_but_after_the_hidden_states(
    model: Path, whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = calibrated.write_hidden

    def write_and_die(*args) -> None:
        write(*args)
        raise Killed

    monkeypatch.setattr(calibrated, "write_hidden", write_and_die)
    with pytest.raises(Killed):
        prune(Checkpoint(model), recipe("wanda", 0.3), tmp_path, quiet, quiet)
    monkeypatch.undo()
    prune(Checkpoint(model), recipe("wanda", 0.3), tmp_path, quiet, quiet)
    assert contents(tmp_path) == whole["wanda"]


def test_sigkill(model: Path, whole, tmp_path: Path) -> None:
    """A real process, killed while it writes the hidden states behind block 0 for block 1's second time."""
    script = """
import os, signal, sys, torch
from pathlib import Path
from pruning.forward import hidden_states as states
from pruning.run import driver
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import quiet
from checkpoints.checkpoint import Checkpoint
def die(tensors, part, **more):
    Path(part).write_bytes(b"half a file")
    if "hidden-00002" in str(part):
        os.kill(os.getpid(), signal.SIGKILL)
    save(tensors, part, **more)
save, states.save_file = states.save_file, die
torch.set_num_threads(1)
driver.prune(Checkpoint(Path(sys.argv[1])), recipe("wanda", 0.3), Path(sys.argv[2]), quiet, quiet)
"""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", script, str(model), str(tmp_path)]
    killed = subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    left = set(contents(tmp_path))
    assert {"progress.json", "masks-00000.safetensors", ".prunesim-lock"} <= left
    assert any(re.fullmatch(r"\.hidden-00002\.safetensors\.[0-9a-f]{12}\.part", name) for name in left)
    prune(Checkpoint(model), recipe("wanda", 0.3), tmp_path, quiet, quiet)
    assert contents(tmp_path) == whole["wanda"]


def half_done(model: Path, folder: Path) -> None:
    def kill(what: str, done: int, of: int) -> None:
        if what == "pruning" and done == 1:
            raise Killed

    with pytest.raises(Killed):
        prune(Checkpoint(model), recipe("wanda", 0.3), folder, kill, quiet)


def test_other_settings_do_not_continue_a_run(model: Path, tmp_path: Path) -> None:
    half_done(model, tmp_path)
    with pytest.raises(UserError, match="unfinished run with other settings"):
        prune(Checkpoint(model), recipe("wanda", 0.4), tmp_path, quiet, quiet)


@pytest.mark.parametrize("damage", ["missing", "broken"])
def test_lost_hidden_states_are_told(damage: str, model: Path, tmp_path: Path) -> None:
    half_done(model, tmp_path)
    file = tmp_path / "hidden-00001.safetensors"
    file.unlink() if damage == "missing" else file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="cannot continue") as refusal:
        prune(Checkpoint(model), recipe("wanda", 0.3), tmp_path, quiet, quiet)
    assert "start again" in str(refusal.value)
    assert "\n" not in str(refusal.value)
