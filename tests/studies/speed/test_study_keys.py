"""Pruning for a speed as an entry of a study."""

import json
from pathlib import Path

import pytest

from studies.cli.main import main
from studies.method_entry import MethodEntry
from studies.study import read_study
from tests.studies.speed.conftest import LEAST, saved
from workloads.bundle import MaskBundle
from workloads.errors import UserError

STUDY = """
title = "Speed"
out = "{out}"
[[models]]
name = "small"
path = "small"
calibration = "small/ids.npy"
samples = 3
[[methods]]
method = "wanda"
speedup = 1.05
on = "{on}"
phase = "decode"
context = 16
also = "{also}"
errors = "output"
levels = 4
searches = 0
[[accelerators]]
name = "vitcod"
tokens = [1]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    saved(folder / "small", LEAST, 16)
    (folder / "chip.toml").write_text('base = "vitcod"\n')
    return folder


def study(folder: Path, name: str, **values: object) -> Path:
    given = {"on": "vitcod", "also": "parameters:1.1", "out": folder / name} | values
    (folder / f"{name}.toml").write_text(STUDY.format(**given))
    return folder / f"{name}.toml"


def test_an_entry_meets_its_speed_and_what_else_was_asked(folder: Path) -> None:
    file = study(folder, "both", on="chip.toml")
    with pytest.raises(SystemExit) as stop:
        main(["run", str(file)])
    assert not stop.value.code
    (made,) = (folder / "both").rglob("speed.json")
    met = json.loads(made.read_text())["met"]
    assert met["final"] >= 1.05
    assert met["also"]["parameters"][0] == 1.1
    layers = MaskBundle.open(made.parent).layers
    fewer = sum(entry.layer.n_weights for entry in layers) / sum(entry.nnz for entry in layers)
    assert fewer == pytest.approx(met["also"]["parameters"][1])
    assert fewer >= 1.1
    assert "wanda (1.05x on chip, decode, parameters:1.1)" in (folder / "both" / "report.md").read_text()


def test_a_machine_file_lies_beside_the_study(folder: Path) -> None:
    (run,) = read_study(study(folder, "beside", on="chip.toml")).methods
    assert run.on == str(folder / "chip.toml")
    (run,) = MethodEntry("besa", cost="chip.toml:us", budget=0.8).runs(folder)
    assert run.cost == f"{folder / 'chip.toml'}:us"
    assert run.title == "besa (0.8 of chip:us)"
    assert run.known.sparsity == 0.5


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"speedup": 1.5}, "say which with `on`"),
        ({"also": "flop:2"}, "`also` is of pruning for a speed"),
        ({"speedup": 1.5, "on": "vitcod", "sparsity": 0.5}, "`speedup` says how much goes; leave `sparsity` out"),
        ({"speedup": 1.5, "on": "vitcod", "targets": (0.5, 0.6)}, "leave `targets` out"),
        ({"cost": "vitcod:us"}, "`cost` and `budget` go together"),
        ({"cost": "vitcod:us", "budget": 0.5, "pattern": "2:4"}, "`budget` says how much goes; leave `pattern` out"),
        ({"speedup": 1.5, "on": "vitcod", "also": "flop:0.5"}, "a factor of 1 or more"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(keys: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        MethodEntry("wanda", **keys).runs()
