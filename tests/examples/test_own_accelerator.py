"""The lane-skipping array of examples/own_accelerator: small files, in closed form, as its twin, and from an empty
folder."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simulator.accelerators.named import open_accelerator
from simulator.statistics import Statistics
from simulator.work import Work
from studies.cli.main import main
from validation.conformance.accelerators import check_accelerator
from workloads.mask import PackedMask

FOLDER = Path(__file__).parents[2] / "examples" / "own_accelerator"
CHIP = f"{FOLDER}/lane_skip.py:LaneSkip"
STUDY = """title = "Mine"
[[models]]
name = "small"
shapes = "model.json"
[[methods]]
method = "generated"
pattern = "2:4"
[[accelerators]]
name = "lane_skip.py:LaneSkip"
tokens = [8]
trace = "q"
[[accelerators]]
name = "half.toml"
tokens = [8]
"""


def outcome(kept: np.ndarray, tokens: int, *sets: str):
    machine = open_accelerator(CHIP, ["array.lanes=4", "array.depth=16", "array.tokens=3", *sets])
    work = Work(*kept.shape, int(kept.sum()), tokens)
    return machine.evaluate(work, Statistics(machine.gather(PackedMask.from_dense(kept), dict)))


@pytest.mark.parametrize("file", sorted(FOLDER.iterdir()), ids=lambda file: file.name)
def test_no_file_is_long(file):
    assert file.is_dir() or len(file.read_text().splitlines()) < 100


def test_one_full_lane_costs_what_four_do():
    kept = np.zeros((4, 16), dtype=bool)
    kept[2] = True
    found = outcome(kept, tokens=7)
    assert found.sparse.compute_cycles == 16 * 3  # 16 weights, three steps of tokens
    assert found.dense.compute_cycles == 16 * 3


def test_even_lanes_gain_all_there_is():
    kept = np.tile(np.arange(32) % 2 == 0, (8, 1))
    found = outcome(kept, tokens=3)
    assert found.sparse.compute_cycles == 2 * 2 * 8  # two groups of lanes, two windows, half of 16
    assert found.dense.compute_cycles == 2 * found.sparse.compute_cycles


def test_it_obeys_the_laws_and_its_twin():
    machine = open_accelerator(CHIP)
    results = list(check_accelerator(type(machine)))
    assert not [str(result) for result in results if result.failed]
    passed = {result.law for result in results if result.status == "passed"}
    assert {"the twin agrees", "full mask in closed form", "more zeros", "outputs of a lane group"} <= passed


def test_from_an_empty_folder(tmp_path, monkeypatch, capsys):
    """Command line, study and report, with paths as a stranger writes them."""
    for file in FOLDER.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    np.save("mask.npy", np.random.default_rng(0).random((96, 256)) < 0.5)
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "simulate",
                "--mask",
                "mask.npy",
                "--on",
                "lane_skip.py:LaneSkip",
                "--on",
                "half.toml",
                "--format",
                "csv",
                "--out",
                "rows.csv",
            ]
        )
    assert ended.value.code in (0, None)
    rows = pd.read_csv("rows.csv")
    assert rows["target"].tolist() == ["lane-skip", "lane-skip-half"]
    assert rows["feasible"].all()
    Path("mine.toml").write_text(STUDY)
    with pytest.raises(SystemExit) as ended:
        main(["run", "mine.toml", "--out", "report"])
    assert ended.value.code in (0, None)
    page = Path("report/report.html").read_text()
    assert "lane-skip: Lanes find the next kept weight in no time" in page
    assert "lane-skip-half" in page
    again = pd.read_csv("report/rows.csv")
    assert again["spec_sha256"].nunique() == 2
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["show", "half.toml"])
    shown = capsys.readouterr().out
    assert "Lane-skipping array" in shown
    assert "lanes = 32" in shown
