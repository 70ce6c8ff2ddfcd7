"""Studies with masks that somebody else made: `[[methods]] masks = "folder"`."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from studies.cli.main import main
from studies.running.study_run import StudyRun, run_study
from studies.study import read_study
from workloads import MaskBundle, UserError
from workloads.bundle import BundleHeader
from workloads.bundle_writer import BundleWriter
from workloads.mask import PackedMask

STUDY = """
title = "Tiny"
[[models]]
name = "tiny"
path = "{model}"
text = "{model}/evaluation.txt"
eval_seq_len = 16
eval_windows = 4
[[methods]]
method = "magnitude"
sparsity = 0.5
[[methods]]
masks = "ours"
label = "Ours"
[[accelerators]]
name = "vitcod-paper"
set.array = {{ width = 8, height = 4 }}
"""


def make_bundle(folder: Path, made_of: Path, method: str = "hers", layers: slice = slice(None), flip: int = 0) -> Path:
    """The masks of another bundle, the first word of every one changed where `flip` is not 0."""
    source = MaskBundle.open(made_of)
    writer = BundleWriter(folder, BundleHeader("tiny", method, target_sparsity=0.5))
    for entry, mask in list(source)[layers]:
        words = mask.words.copy()
        words[0, 0] ^= np.uint64(flip)
        writer.add(entry.layer, PackedMask(words, mask.cols), "unstructured")
    writer.finish()
    return folder


@pytest.fixture(scope="module")
def magnitude(tmp_path_factory, tiny_model) -> Path:
    out = tmp_path_factory.mktemp("given") / "magnitude"
    with pytest.raises(SystemExit, match="0"):
        main(["prune", str(tiny_model), "--method", "magnitude", "--sparsity", "0.5", "--out", str(out)])
    return out


@pytest.fixture
def study_file(tmp_path, tiny_model, magnitude) -> Path:
    make_bundle(tmp_path / "ours", magnitude)
    path = tmp_path / "tiny.toml"
    path.write_text(STUDY.format(model=tiny_model))
    return path


def test_given_masks_stand_beside_a_method_with_their_perplexity(study_file, tmp_path):
    """The masks are those of the method, so every figure must be too."""
    files = run_study(read_study(study_file), tmp_path / "out")
    rows, quality = pd.read_csv(files["rows.csv"]), pd.read_csv(files["quality.csv"]).set_index("method")
    for column in ("layer", "cycles", "nnz", "mask_sha256", "target_sparsity"):
        mine, theirs = (rows.loc[rows["method"] == name, column].tolist() for name in ("Ours", "magnitude"))
        assert mine == theirs
    assert quality.loc["Ours", "perplexity"] == quality.loc["magnitude", "perplexity"]
    compared = pd.read_csv(files["compared.csv"])
    assert {"Ours@speedup", "magnitude@speedup", "Ours@perplexity", "dense@perplexity"} <= set(compared.columns)
    assert "Ours" in files["report.tex"].read_text()


def test_steps_run_again_where_the_bundle_changed_and_only_there(study_file, tmp_path, magnitude, capsys):
    def run() -> str:
        capsys.readouterr()
        StudyRun(read_study(study_file), tmp_path / "out").run()
        return capsys.readouterr().err

    run()
    assert "[" not in run()
    (tmp_path / "ours").rename(tmp_path / "before")
    make_bundle(tmp_path / "ours", magnitude, flip=1)
    said = run()
    assert [line.split("] ")[1] for line in said.splitlines() if line.startswith("[")] == [
        "perplexity of tiny, Ours 50 %, seed 0", "cycles of tiny, Ours 50 %, seed 0 on vitcod-paper, tokens 1",
    ]  # fmt: skip


def test_a_bundle_without_a_label_is_called_by_its_method(study_file):
    study_file.write_text(study_file.read_text().replace('label = "Ours"\n', ""))
    assert [method.title for method in read_study(study_file).methods] == ["magnitude", "hers"]


def test_one_label_for_bundles_of_several_targets_and_models(study_file, tmp_path, magnitude):
    """One title may stand for a method at several targets, or for several models; not twice for one."""
    text = study_file.read_text()
    source = MaskBundle.open(magnitude)
    writer = BundleWriter(tmp_path / "more", BundleHeader("tiny", "hers", target_sparsity=0.75))
    for entry, mask in source:
        writer.add(entry.layer, mask, "unstructured")
    writer.finish()
    study_file.write_text(text + '[[methods]]\nmasks = "more"\nlabel = "Ours"\n')
    assert [m.sparsity for m in read_study(study_file).methods] == [0.5, 0.5, 0.75]
    study_file.write_text(text + '[[methods]]\nmasks = "ours"\nlabel = "Ours"\n')
    with pytest.raises(UserError, match="two methods would both be called 'Ours'"):
        read_study(study_file)
    second = text[text.index("[[models]]") : text.index("[[methods]]")].replace('"tiny"', '"second"')
    each = '[[methods]]\nmasks = "ours"\nlabel = "Ours"\nmodels = ["{}"]\n'
    given = text.replace('masks = "ours"\n', 'masks = "ours"\nmodels = ["tiny"]\n') + second
    study_file.write_text(given + each.format("second"))
    study = read_study(study_file)
    runner = StudyRun(study, tmp_path / "out")
    assert [[m.title for m in runner.plan.methods_of(model)] for model in study.models] == [["magnitude", "Ours"]] * 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('masks = "ours"', 'masks = "nowhere"', "prunesim import makes a bundle"),
        ('masks = "ours"', 'masks = "."', "holds no bundle.json"),
        ('masks = "ours"', 'masks = "ours"\nmethod = "wanda"', "needs either `method` or `masks`"),
        ('masks = "ours"\n', "", "needs either `method` or `masks`"),
        ('masks = "ours"', 'masks = "ours"\nsparsity = 0.5', "leave `sparsity` out"),
        ('masks = "ours"', 'masks = "ours"\nbits = 4', "leave `bits` out"),
        ('masks = "ours"', 'masks = "ours"\nset.x = 1', "leave `set` out"),
        ('masks = "ours"', 'masks = "ours"\nmodels = ["tinny"]', "did you mean 'tiny'"),
        ('label = "Ours"', 'label = "dense"', "'dense' is what reports call"),
    ],
)
def test_what_cannot_be_is_refused_when_the_file_is_read(study_file, old, new, said):
    study_file.write_text(study_file.read_text().replace(old, new))
    with pytest.raises(UserError) as caught:
        read_study(study_file)
    assert said in str(caught.value)
    assert str(study_file) in str(caught.value)


@pytest.mark.parametrize(
    ("shapes", "said"),
    [("llama-7b", "this model's is 4096 x 4096"), ("opt-175b", "this model has not")],
)
def test_masks_of_another_model_are_refused_before_anything_runs(study_file, tmp_path, shapes, said):
    text = study_file.read_text()
    models = f'[[models]]\nname = "other"\nshapes = "{shapes}"\n'
    study_file.write_text(text[: text.index("[[models]]")] + models + text[text.index("[[methods]]\nmasks") :])
    with pytest.raises(UserError, match=said) as caught:
        StudyRun(read_study(study_file), tmp_path / "out").check()
    assert "Ours for model 'other'" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_model_of_shapes_alone_takes_masks(study_file, tmp_path, tiny_model):
    """No weights are needed for speed."""
    text = study_file.read_text()
    models = f'[[models]]\nname = "tiny"\nshapes = "{tiny_model}"\n'
    study_file.write_text(text[: text.index("[[models]]")] + models + text[text.index("[[methods]]\nmasks") :])
    rows, quality = StudyRun(read_study(study_file), tmp_path / "out").run()
    assert quality is None
    assert set(rows["method"]) == {"Ours"}
