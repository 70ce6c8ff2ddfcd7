"""Studies of quality alone: no accelerators, several targets and seeds, models that may be absent."""

import re
from pathlib import Path

import pandas as pd
import pytest

from studies.running.study_run import StudyRun, run_study
from studies.study import read_study
from workloads import UserError

ROOT = Path(__file__).parents[2]
STUDY = """
title = "Tiny"
[[models]]
name = "tiny"
path = "{model}"
calibration = "{model}/calibration.txt"
samples = 2
seq_len = 16
text = "{model}/evaluation.txt"
eval_seq_len = 16
eval_windows = 4
eval_compare = true
[[models]]
name = "elsewhere"
path = "no/such/folder"
optional = true
text = "no/such/text.txt"
[[methods]]
method = "magnitude"
targets = [0.5, "2:4"]
[[methods]]
method = "wanda"
targets = [0.5, "2:4"]
seeds = [0, 1, 2]
"""
STEPS = 1 + 2 * (2 + 2 * 3)  # dense, then masks and perplexity of every run


@pytest.fixture
def study_file(tmp_path, tiny_model) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(STUDY.format(model=tiny_model))
    return path


def test_a_study_without_accelerators_reports_perplexities_over_seeds(study_file, tmp_path, capsys):
    files = run_study(read_study(study_file), tmp_path / "out")
    rows = pd.read_csv(files["quality.csv"])
    assert len(rows) == 1 + 2 + 6
    assert "rows.csv" not in files
    pruned = rows[rows["method"] != "dense"]
    assert (pruned["kl_divergence"] > 0).all()
    assert pruned["top1_agreement"].between(0, 1).all()
    assert set(rows["dtype"]) == {"float32"}
    assert "KL divergence from the dense model" in files["report.html"].read_text()
    table = pd.read_csv(files["quality-table.csv"]).set_index("method")
    for target, pattern in (("50 %", "unstructured"), ("2:4", "2:4")):
        over = rows[(rows["method"] == "wanda") & (rows["pattern"] == pattern)]["perplexity"]
        assert sorted(over)[0] < sorted(over)[-1]  # the seeds draw different sequences
        assert table.loc["wanda", target] == pytest.approx(over.mean())
        assert table.loc["wanda", f"{target} spread"] == pytest.approx(over.std(ddof=1))
        assert pd.isna(table.loc["magnitude", f"{target} spread"])
    assert table["seeds"].fillna(0).astype(int).to_dict() == {"dense": 0, "magnitude": 1, "wanda": 3}
    said = capsys.readouterr()
    assert "perplexity (lower is better)" in said.out
    steps = [line for line in said.err.splitlines() if line.startswith("[")]
    assert [line.split("]")[0] for line in steps] == [f"[{n}/{STEPS}" for n in range(1, STEPS + 1)]
    assert "masks of tiny, wanda 2:4, seed 2" in said.err


def test_an_absent_optional_model_is_left_out_and_said_so(study_file, tmp_path, capsys):
    study_file.write_text(
        study_file.read_text().split("[[methods]]")[0] + '[[methods]]\nmethod = "magnitude"\nsparsity = 0.5\n'
    )
    files = run_study(read_study(study_file), tmp_path / "out")
    assert "left out: model 'elsewhere'" in capsys.readouterr().err
    for report in ("report.html", "report.md"):
        assert "elsewhere" in files[report].read_text()
    assert set(pd.read_csv(files["quality.csv"])["model"]) == {"tiny"}


def test_a_model_that_is_not_optional_must_be_there(study_file, tmp_path):
    study_file.write_text(study_file.read_text().replace("optional = true\n", ""))
    with pytest.raises(UserError, match=r"elsewhere.*no such file|no/such"):
        run_study(read_study(study_file), tmp_path / "out")


def test_there_must_be_something_to_report(study_file):
    text = study_file.read_text()
    study_file.write_text(text.replace('text = "no/such/text.txt"\n', ""))
    with pytest.raises(UserError, match=r"'elsewhere' `path` and `text`"):
        read_study(study_file)
    study_file.write_text(text.replace(text[text.index("[[models]]") : text.rindex("[[models]]")], ""))
    with pytest.raises(UserError, match="none of its optional models"):
        read_study(study_file)


def test_more_seeds_leave_what_is_there_untouched(study_file, tmp_path, capsys):
    out = tmp_path / "out"
    text = study_file.read_text()
    study_file.write_text(text.replace("seeds = [0, 1, 2]", "seeds = [0]").replace('[0.5, "2:4"]', "[0.5]"))
    StudyRun(read_study(study_file), out).run()
    before = {f: f.stat().st_mtime_ns for f in out.rglob("*") if f.is_file() and {"masks", "steps"} & set(f.parts)}
    capsys.readouterr()
    study_file.write_text(text.replace("seeds = [0, 1, 2]", "seeds = [0, 1]").replace('[0.5, "2:4"]', "[0.5]"))
    StudyRun(read_study(study_file), out).run()
    assert {f: f.stat().st_mtime_ns for f in before} == before
    assert "5 of 7 steps were unchanged" in capsys.readouterr().err


def test_generated_masks_have_no_weights_to_quantize(study_file, tmp_path):
    study_file.write_text(study_file.read_text() + '[[methods]]\nmethod = "generated"\nsparsity = 0.5\nbits = 4\n')
    with pytest.raises(UserError, match="without weights"):
        run_study(read_study(study_file), tmp_path / "out")


@pytest.mark.parametrize("name", sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("examples/*.toml")))
def test_the_studies_that_ship_can_be_run(name, tmp_path):
    """With a model that is there in the place of one that is fetched first."""
    study_file, demo = ROOT / name, ROOT / "examples" / "demo-model"
    text = study_file.read_text()
    if "../out/smollm2/model" in text:
        study_file = tmp_path / "smollm2.toml"
        study_file.write_text(text.replace('"demo-model', f'"{demo}').replace("../out/smollm2/model", str(demo)))
    StudyRun(read_study(study_file), tmp_path).check()


def test_both_quality_studies_run_the_same_methods(tmp_path):
    shipped, with_second = (read_study(ROOT / folder / "quality.toml") for folder in ("examples", "benchmarks"))
    assert shipped.methods == with_second.methods
    assert len(shipped.methods) == 2 * (1 + 5 * 3) * 5 + 1 * 3 + 2 * 3 + 5 * 3 + 1 + 3 * 3 + 3 * (3 * 3)
    StudyRun(with_second, tmp_path).check()


def test_a_target_that_a_models_shapes_cannot_take_is_left_out_and_said_so(tmp_path, tiny_model, capsys):
    """Runs of 5 do not divide 32 inputs; the other targets go on."""
    path = tmp_path / "tiny.toml"
    path.write_text(STUDY.format(model=tiny_model).replace('"2:4"', '"2:5"'))
    files = run_study(read_study(path), tmp_path / "out")
    assert set(pd.read_csv(files["quality.csv"])["pattern"]) == {"unstructured"}
    for text in (capsys.readouterr().err, files["report.html"].read_text(), files["report.md"].read_text()):
        assert text.count("divisible by 5, not 32") == 1  # for all methods and seeds


def test_a_study_that_lacks_calibration_is_told_before_anything_runs(tmp_path, tiny_model):
    path = tmp_path / "tiny.toml"
    text = STUDY.format(model=tiny_model)
    path.write_text("".join(line for line in text.splitlines(True) if not line.startswith("calibration")))
    with pytest.raises(UserError, match=r"tiny\.toml: model 'tiny' has no `calibration`; wanda needs it"):
        StudyRun(read_study(path), tmp_path / "out").check()
    assert not (tmp_path / "out").exists()


def test_what_a_method_says_of_blocks_is_in_the_report(study_file, tmp_path):
    kept = study_file.read_text().partition('[[models]]\nname = "elsewhere"')[0]
    study_file.write_text(kept + '[[methods]]\nmethod = "besa"\nsparsity = 0.5\nset.rounds = 1\n')
    report = run_study(read_study(study_file), tmp_path / "out")["report.html"].read_text()
    assert re.search(r"tiny, besa 50 %, seed 0: budgets: (learned|even) in \d of \d blocks", report)
