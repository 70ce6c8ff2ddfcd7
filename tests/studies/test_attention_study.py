"""Attention masks in studies, `simulate` and reports: rows like any."""

import numpy as np
import pandas as pd
import pytest

from simulator.accelerators.vitcod.attention.masks import AttentionMasks
from simulator.accelerators.vitcod.attention.target import model_rows, open_attention
from studies.cli.main import main
from studies.report import read_rows
from studies.running.study_run import StudyRun, run_study
from studies.study import read_study
from workloads.errors import UserError


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


STUDY = """
title = "Attention"
[[models]]
name = "deit"
[[methods]]
masks = "half.npy"
label = "half"
[[methods]]
masks = "tenth.npy"
[[accelerators]]
name = "vitcod-attention"
trace = "attention"
[[accelerators]]
name = "vitcod-attention-paper"
"""


@pytest.fixture
def study_file(tmp_path):
    rng = np.random.default_rng(0)
    for name, density in (("half", 0.5), ("tenth", 0.1)):
        kept = rng.random((2, 3, 48, 48)) < density
        kept[..., 3] = True
        np.save(tmp_path / f"{name}.npy", kept)
    path = tmp_path / "attention.toml"
    path.write_text(STUDY)
    return path


def test_a_study_of_attention_alone(study_file, tmp_path):
    files = run_study(read_study(study_file), tmp_path / "out")
    rows = read_rows(files["rows.csv"])
    assert len(rows) == 2 * 2 * 2  # methods x targets x layers
    assert set(rows["method"]) == {"half", "tenth"}
    assert set(rows["role"]) == {"attention"}
    for name, part in rows[rows["target"] == "vitcod-attention"].groupby("method"):
        masks = AttentionMasks.open(tmp_path / f"{name}.npy")
        *layers, total = model_rows(open_attention("vitcod-attention"), masks)
        assert part["cycles"].tolist() == [row["cycles"] for row in layers]
        assert part["sddmm_cycles"].sum() == total["sddmm_cycles"]
        assert part["speedup"].tolist() == [row["speedup"] for row in layers]
    page = files["report.html"].read_text()
    assert "attention" in page
    assert "vitcod-attention: Softmax is a rate" in page
    again = StudyRun(read_study(study_file), tmp_path / "out").run()[0]
    pd.testing.assert_frame_equal(again[list(rows)], rows)


def test_linears_and_attention_go_where_they_run(study_file, tmp_path, tiny_model):
    text = STUDY.replace('name = "deit"', f'name = "deit"\nshapes = "{tiny_model}"').replace(
        'trace = "attention"\n', ""
    )
    study_file.write_text(
        text + '[[methods]]\nmethod = "generated"\npattern = "2:4"\n[[accelerators]]\nname = "stc"\ntokens = [4]\n'
    )
    rows, _ = StudyRun(read_study(study_file), tmp_path / "out").run()
    pairs = set(zip(rows["method"], rows["target"], strict=True))
    attention = {(m, t) for m in ("half", "tenth") for t in ("vitcod-attention", "vitcod-attention-paper")}
    assert pairs == {*attention, ("generated", "stc")}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('masks = "half.npy"', 'masks = "hlf.npy"', "no such file of attention masks"),
        ('masks = "half.npy"', 'masks = "half.npy"\nsparsity = 0.5', "leave `sparsity` out"),
        ('trace = "attention"', "tokens = [4]", "takes its tokens from the masks"),
        ('name = "vitcod-attention"\ntrace = "attention"', 'name = "stc"', ""),
        ('name = "vitcod-attention-paper"', 'name = "vitcod-attention-paper"\ntrace = "attention"', "without tiles"),
        ('name = "deit"', 'name = "deit"\npath = "nowhere"\nshapes = "llama-7b"', "needs either `path`"),
    ],
)
def test_mistakes(study_file, tmp_path, old, new, said):
    study_file.write_text(study_file.read_text().replace(old, new, 1))
    if not said:  # the other accelerator still runs them
        StudyRun(read_study(study_file), tmp_path / "out").check()
        return
    with pytest.raises(UserError) as error:
        StudyRun(read_study(study_file), tmp_path / "out").check()
    assert said in str(error.value)


def test_no_accelerator_of_attention(study_file, tmp_path):
    text = STUDY[: STUDY.index("[[accelerators]]")]
    study_file.write_text(text + '[[accelerators]]\nname = "stc"\n')
    with pytest.raises(UserError, match="runs masks of attention; add vitcod-attention"):
        StudyRun(read_study(study_file), tmp_path / "out").check()


def test_simulate_takes_masks_of_attention(study_file, tmp_path):
    out, trace = tmp_path / "rows.csv", tmp_path / "trace.json"
    given = ("simulate", "--mask", tmp_path / "half.npy", "--format", "csv")
    assert run(*given, "--on", "vitcod-attention", "--out", out, "--trace", trace) == 0
    rows = read_rows(out)
    assert rows["layer"].tolist() == ["attention.0", "attention.1"]
    assert trace.stat().st_size > 100
    assert run(*given, "--on", "vitcod") == 2


def test_a_report_leaves_out_the_sum_that_the_verb_adds(study_file, tmp_path):
    out = tmp_path / "rows.csv"
    given = ("attention", tmp_path / "half.npy", "--on", "vitcod-attention", "--format", "csv")
    assert run(*given, "--out", out) == 0
    assert read_rows(out)["layer"].tolist() == ["attention.0", "attention.1"]
