"""Study files: what they may say, which steps run again, and that a killed study ends the same."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from studies.running.study_run import StudyRun, run_study
from studies.study import read_study
from workloads import UserError

STUDY = """
title = "Tiny"
[[models]]
name = "tiny"
path = "{model}"
calibration = "{model}/ids.npy"
text = "{model}/evaluation.txt"
eval_seq_len = 64
[[methods]]
method = "magnitude"
sparsity = 0.5
[[methods]]
method = "wanda"
pattern = "2:4"
[[accelerators]]
name = "vitcod-paper"
set.array = {{ width = 8, height = 4 }}
[[accelerators]]
name = "vitcod"
tokens = [1, 3]
"""


@pytest.fixture
def study_file(tmp_path, tiny_model) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(STUDY.format(model=tiny_model))
    return path


@pytest.fixture
def small_study_file(study_file) -> Path:
    """One method on two machines: what a report of several draws is not looked at."""
    text = study_file.read_text()
    study_file.write_text(text.replace('[[methods]]\nmethod = "wanda"\npattern = "2:4"\n', "").replace("[1, 3]", "1"))
    return study_file


def run_steps(study_file: Path, out: Path) -> pd.DataFrame:
    """All rows of a study, without its report."""
    rows, _ = StudyRun(read_study(study_file), out).run()
    return rows


def made_at(folder: Path) -> dict[str, int]:
    return {
        str(f.relative_to(folder)): f.stat().st_mtime_ns
        for f in folder.rglob("*")
        if f.is_file() and "steps" in f.parts
    }


def test_a_study_writes_its_report_and_every_row(study_file, tmp_path, capsys):
    files = run_study(read_study(study_file), tmp_path / "out")
    rows = pd.read_csv(files["rows.csv"])
    assert len(rows) == 14 * 2 * 3  # layers x methods x (paper, 1 token, 3 tokens)
    assert set(zip(rows["method"], rows["pattern"], strict=True)) == {("magnitude", "unstructured"), ("wanda", "2:4")}
    assert rows["speedup"].notna().all()
    assert (
        rows.loc[rows["target"] == "vitcod-paper", "dense_cycles"]
        == (rows["out_features"] * rows["in_features"] / 32)[rows["target"] == "vitcod-paper"]
    ).all()
    assert len(pd.read_csv(files["quality.csv"])) == 3
    assert "report.html" in capsys.readouterr().out


def test_unchanged_steps_are_skipped_and_changed_ones_are_not(small_study_file, tmp_path):
    out = tmp_path / "out"
    run_study(read_study(small_study_file), out)
    before = made_at(out)
    html = (out / "report.html").read_bytes()
    run_study(read_study(small_study_file), out)
    assert made_at(out) == before
    assert (out / "report.html").read_bytes() == html
    small_study_file.write_text(small_study_file.read_text().replace("height = 4", "height = 2"))
    run_steps(small_study_file, out)
    changed = {name for name, stamp in made_at(out).items() if before.get(name) != stamp}
    assert changed
    assert all("vitcod-paper" in name for name in changed)


def test_new_calibration_makes_new_masks(study_file, tmp_path, tiny_model):
    out = tmp_path / "out"
    text = study_file.read_text()
    run_steps(study_file, out)
    first = json.loads((out / "masks" / "tiny--wanda--2-4--0" / "bundle.json").read_text())
    study_file.write_text(
        text.replace(
            f'calibration = "{tiny_model}/ids.npy"',
            f'calibration = "{tiny_model}/calibration.txt"\nsamples = 4\nseq_len = 16',
        )
    )
    run_steps(study_file, out)
    second = json.loads((out / "masks" / "tiny--wanda--2-4--0" / "bundle.json").read_text())
    assert first["header"]["calibration"]["sha256"] != second["header"]["calibration"]["sha256"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('title = "Tiny"', 'titel = "Tiny"', "titel"),
        ('method = "magnitude"', 'method = "magnitud"', "did you mean 'magnitude'"),
        ('name = "vitcod"', 'name = "vitcodd"', "did you mean"),
        ("tokens = [1, 3]", "tokens = [0]", "tokens"),
        ("tokens = [1, 3]", "tokens = []", "tokens"),
        ("width = 8", "widht = 8", "array.widht"),
        ('name = "vitcod-paper"', 'name = "vitcod-paper"\ntokens = [2]', "tokens"),
        ("sparsity = 0.5", "sparsity = 1.5", "1.5"),
        ("sparsity = 0.5", "sparsity = '0.5'", "sparsity"),
        ("evaluation.txt", "evaluation.tx", "evaluation.tx"),
        ("ids.npy", "idz.npy", "idz.npy"),
        ("[[accelerators]]", "[[accelerators]", "TOML"),
        ("[[accelerators]]", "[report]\nstyle = 'absent.mplstyle'\n[[accelerators]]", "report.style: "),
        ("[[accelerators]]", "[report]\nstile = 'a'\n[[accelerators]]", "did you mean 'style'"),
        ("[[accelerators]]", "[report]\nstyle = 3\n[[accelerators]]", "report.style = 3"),
        ("sparsity = 0.5", "targets = [0.5, '2:x']", "2:x"),
        ("sparsity = 0.5", "sparsity = 0.5\nbits = 40", "bits"),
        ("sparsity = 0.5", "sparsity = 0.5\ngroup_size = 8", "bits"),
        ('method = "magnitude"\nsparsity = 0.5', 'method = "none"\nsparsity = 0.5', "none prunes nothing"),
    ],
)
def test_mistakes_in_a_study_file(study_file, tmp_path, old, new, said):
    study_file.write_text(study_file.read_text().replace(old, new, 1))
    with pytest.raises(UserError) as error:
        run_study(read_study(study_file), tmp_path / "out")
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "report.html").exists()


def test_one_method_at_two_sparsities_and_rules(study_file, tmp_path):
    more = (
        '[[methods]]\nmethod = "magnitude"\nsparsity = 0.7\n[[methods]]\nmethod = "magnitude"\nrule = '
        '"row"\nsparsity = 0.5\n'
    )
    study_file.write_text(study_file.read_text().replace("[[accelerators]]", more + "[[accelerators]]", 1))
    rows = run_steps(study_file, tmp_path / "out")
    found = set(zip(rows["method"], rows["target_sparsity"], strict=True))
    assert found == {("magnitude", 0.5), ("magnitude", 0.7), ("magnitude (row)", 0.5), ("wanda", 0.5)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('title = "T"\nmodels = [3]', "models = 3 (int): "),
        ('title = "T"\nmodels = 3', "models: expected at least one table, [[models]]"),
        ('title = "T"\nreport = 3', "report: expected one table, [report]"),
        ('title = "T"\n[[executor]]\nname = "dask"', "executor: expected one table, [executor]"),
        ("title = 3", "title = 3 (int): expected str"),
    ],
)
def test_a_wrong_kind_of_value_is_told_where_it_stands(tmp_path, text, said):
    more = "" if "models" in text else '[[models]]\nname = "m"\npath = "p"\n'
    (tmp_path / "s.toml").write_text(f"{text}\n{more}")
    with pytest.raises(UserError) as told:
        read_study(tmp_path / "s.toml")
    assert f"{tmp_path / 's.toml'}: {said}" in str(told.value)


def test_two_methods_of_one_name_are_refused_before_anything_runs(study_file, tmp_path):
    twice = '[[methods]]\nmethod = "magnitude"\nsparsity = 0.5\nseed = 1\n'
    study_file.write_text(study_file.read_text().replace("[[accelerators]]", twice + "[[accelerators]]", 1))
    with pytest.raises(UserError, match="label"):
        run_study(read_study(study_file), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_evaluation_settings_do_not_prune_again(study_file, tmp_path):
    out = tmp_path / "out"
    run_steps(study_file, out)
    masks = {f: f.stat().st_mtime_ns for f in (out / "masks").rglob("*") if f.is_file()}
    study_file.write_text(study_file.read_text().replace("eval_seq_len = 64", "eval_seq_len = 32"))
    run_steps(study_file, out)
    assert {f: f.stat().st_mtime_ns for f in (out / "masks").rglob("*") if f.is_file()} == masks


def test_shapes_alone_cannot_be_pruned(study_file, tmp_path, tiny_model):
    text = study_file.read_text().replace(f'path = "{tiny_model}"', 'shapes = "llama-7b"')
    study_file.write_text(text)
    with pytest.raises(UserError, match="needs weights"):
        run_study(read_study(study_file), tmp_path / "out")


def test_a_killed_study_ends_with_the_same_bytes(small_study_file, tmp_path):
    """SIGKILL at several moments, then once to the end."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, "-m", "studies.cli", "run", str(small_study_file), "--out"]
    subprocess.run([*command, str(whole)], check=True, capture_output=True)
    for step in ("masks", "steps"):
        process = subprocess.Popen([*command, str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not (killed / step).exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run([*command, str(killed)], check=True, capture_output=True)
    relevant = [f.relative_to(whole) for f in sorted(whole.rglob("*")) if f.is_file()]
    assert relevant == [f.relative_to(killed) for f in sorted(killed.rglob("*")) if f.is_file()]
    for file in relevant:
        assert (whole / file).read_bytes() == (killed / file).read_bytes(), file
