"""Steps on the command line and in studies: an entry goes on from an earlier one, and is a line of its own."""

from pathlib import Path

import pandas as pd
import pytest

from studies.running.study_run import run_study
from studies.study import read_study
from workloads import UserError
from workloads.bundle import MaskBundle

STUDY = """
title = "Steps"
[[models]]
name = "tiny"
path = "{model}"
calibration = "{model}/calibration.txt"
samples = 2
seq_len = 16
text = "{model}/evaluation.txt"
eval_seq_len = 16
eval_windows = 4
[[methods]]
label = "small"
method = "cfsp"
sparsity = 0.25
multiple_of = 4
[[methods]]
method = "wanda"
pattern = "2:4"
after = "small"
[[methods]]
method = "none"
bits = 4
after = "small + wanda"
[[accelerators]]
name = "vitcod"
tokens = [4]
"""


@pytest.fixture
def study_file(tmp_path: Path, tiny_model: Path) -> Path:
    path = tmp_path / "steps.toml"
    path.write_text(STUDY.format(model=tiny_model))
    return path


def test_every_step_is_a_line_of_the_tables(study_file: Path, tmp_path: Path, capsys) -> None:
    files = run_study(read_study(study_file), tmp_path / "out")
    lines = pd.read_csv(files["whole-model.csv"]).set_index("method")
    assert lines.index.tolist() == ["small", "small + wanda", "small + wanda + 4 bits"]
    assert lines["pattern"].tolist() == ["smaller", "2:4", "2:4"]
    assert lines["sparsity"].is_monotonic_increasing
    assert lines["perplexity"].notna().all()
    assert lines["sparsity"].iloc[1] == lines["sparsity"].iloc[2] > 0.5
    said = pd.read_csv(files["quality.csv"]).set_index("method")
    assert said.loc["small + wanda + 4 bits", "weight_bits"] == 4
    masks = [MaskBundle.open(path.parent) for path in sorted((tmp_path / "out" / "masks").glob("*/bundle.json"))]
    assert {bundle.header.method for bundle in masks} == {"cfsp", "cfsp+wanda", "cfsp+wanda+rtn"}
    capsys.readouterr()
    run_study(read_study(study_file), tmp_path / "out")
    assert "10 of 10 steps were unchanged" in capsys.readouterr().err  # dense; masks, perplexity and cycles of each


def test_another_first_step_makes_the_others_anew(study_file: Path, tmp_path: Path, capsys) -> None:
    study_file.write_text(study_file.read_text().replace('[[accelerators]]\nname = "vitcod"\ntokens = [4]\n', ""))
    run_study(read_study(study_file), tmp_path / "out")
    study_file.write_text(study_file.read_text().replace("sparsity = 0.25", "sparsity = 0.5"))
    capsys.readouterr()
    run_study(read_study(study_file), tmp_path / "out")
    assert "1 of 7 steps were unchanged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'after = "small"',
            'after = "smal"',
            "names 'smal', which no entry before it is called; they are small",
        ),
        ('after = "small"', 'after = "small + wanda"', "which no entry before it is called"),
        ("sparsity = 0.25", "targets = [0.25, 0.5]", "which has 2 targets and seeds, and no single one with seed 0"),
        ('method = "wanda"\npattern', 'method = "generated"\npattern', "not for generated ones"),
        ('after = "small"', 'after = "small"\nmodels = ["tiny"]', ""),
        ('label = "small"', 'label = "small"\nmodels = ["tiny"]', "which is not run for all models"),
        ('method = "none"\nbits = 4', 'method = "lowrank"\nsparsity = 0.5', "makes dense factors and has no `after`"),
        ('after = "small"', "after = 3", "methods.1.after"),
    ],
)
def test_what_cannot_come_after(old: str, new: str, message: str, study_file: Path, tmp_path: Path) -> None:
    study_file.write_text(study_file.read_text().replace(old, new, 1))
    if not message:  # named models that its base is run for; the last step is for all
        message = "small \\+ wanda.*not run for all models"
    with pytest.raises(UserError, match=message):
        run_study(read_study(study_file), tmp_path / "out")
