"""`prunesim finetune` as a user meets it, and ps.finetune."""

import json
from pathlib import Path

import pandas as pd
import pytest

import prunesim as ps
from studies.cli.main import main
from validation.conformance.tiny_models import contents


def run(*arguments: object) -> int:
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def refused(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """The one line that a refused command leaves on stderr."""
    capsys.readouterr()
    assert run("finetune", *arguments) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("prunesim: ")]
    assert captured.out == ""
    assert len(lines) == 1, captured.err
    assert "Traceback" not in captured.err
    return lines[0]


@pytest.fixture(scope="module")
def masks(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masks") / "masks"
    return ps.prune(tiny_model, method="magnitude", pattern="2:4", bits=4, group_size=8, out=folder).folder


def settings(tiny_model: Path) -> list[object]:
    return ["--text", tiny_model / "calibration.txt", "--steps", 6, "--seq-len", 32, "--batch", 2, "--lr", 0.01]


def test_from_masks_to_a_better_bundle_and_a_checkpoint(
    tiny_model: Path, masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out, saved = tmp_path / "trained", tmp_path / "saved"
    given = [tiny_model, "--masks", masks, *settings(tiny_model)]
    assert run("finetune", *given, "--out", out, "--save-model", saved) == 0
    said = capsys.readouterr().err
    assert f"wrote {out}: 14 layers, sparsity 0.5000" in said
    assert "held-out loss" in said.splitlines()[-1]
    assert said.splitlines()[-1].endswith("in 6 steps")
    assert run("check", out) == 0
    assert run("simulate", out, "--on", "vitcod", "--format", "csv", "--out", tmp_path / "rows.csv") == 0
    assert set(pd.read_csv(tmp_path / "rows.csv")["method"]) == {"magnitude+finetune"}
    text = ["--text", tiny_model / "evaluation.txt", "--seq-len", 32, "--windows", 8, "--format", "json"]
    found = []
    for model, bundle in ((tiny_model, masks), (tiny_model, out), (saved, None)):
        capsys.readouterr()
        assert run("eval", model, *(["--masks", bundle] if bundle else []), *text) == 0
        found.append(json.loads(capsys.readouterr().out)[0]["perplexity"])
    assert found[1] < found[0]
    assert found[2] == pytest.approx(found[1], rel=1e-6)


def test_python_and_the_command_write_the_same_bundle(
    tiny_model: Path, masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    more = ["--mode", "lora", "--rank", 4, "--importance", "3,1", "--held-out", "0.1", "--distill", "logits"]
    command = ["finetune", tiny_model, "--masks", masks, *settings(tiny_model), *more, "--out", tmp_path / "one"]
    assert run(*command) == 0
    bundle = ps.finetune(
        tiny_model, masks=ps.MaskBundle.open(masks), out=tmp_path / "two", text=str(tiny_model / "calibration.txt"),
        steps=6, seq_len=32, batch=2, lr=0.01, mode="lora", rank=4, importance="3,1", held_out="0.1", distill="logits",
    )  # fmt: skip
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert bundle.header.parameters["finetune"][0]["importance"] == "3,1"
    looks = json.loads((bundle.folder / "finetune.json").read_text())["losses"]
    assert [look["step"] for look in looks] == [0, 1, 2, 3, 4, 5, 6]


def test_a_packed_checkpoint_of_trained_codes(tiny_model: Path, masks: Path, tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors")
    target = ["--save-model", tmp_path / "packed", "--save-format", "packed"]
    command = ["finetune", tiny_model, "--masks", masks, *settings(tiny_model), "--out", tmp_path / "out", *target]
    assert run(*command) == 0
    packed = ps.evaluate(tmp_path / "packed", text=tiny_model / "evaluation.txt", seq_len=32, windows=4)
    own = ps.evaluate(tiny_model, masks=tmp_path / "out", text=tiny_model / "evaluation.txt", seq_len=32, windows=4)
    assert packed.frame["perplexity"][0] == pytest.approx(own.frame["perplexity"][0], rel=1e-6)


def test_mistakes_are_one_line(tiny_model: Path, masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = ["--out", tmp_path / "out"]
    given = [tiny_model, "--masks", masks, *out]
    text = ["--text", tiny_model / "calibration.txt"]
    assert "say what to train on: --text" in refused(capsys, *given, "--steps", 3)
    assert "say how long to train: --steps 200" in refused(capsys, *given, *text)
    assert "--steps must be at least 1, not 0" in refused(capsys, *given, *text, "--steps", 0)
    assert "the model takes 64; lower --seq-len" in refused(capsys, *given, *text, "--steps", 3, "--seq-len", 65)
    assert "fewer than one sequence of" in refused(
        capsys, *given, "--text", tiny_model / "evaluation.txt", "--steps", 3, "--seq-len", 5000
    )
    assert "no such file: nothing.txt" in refused(capsys, *given, "--text", "nothing.txt", "--steps", 3)
    assert "is not a mask bundle" in refused(capsys, tiny_model, "--masks", tiny_model, *out, *text, "--steps", 3)
    assert "need folders of their own" in refused(capsys, *given, *text, "--steps", 3, "--save-model", tmp_path / "out")
    assert "is the model itself" in refused(capsys, *given, *text, "--steps", 3, "--save-model", tiny_model)
    assert "needs a folder: --save-model" in refused(capsys, *given, *text, "--steps", 3, "--save-format", "packed")
    assert "unknown setting 'step'" in str(python_refusal(tiny_model, masks, tmp_path, step=3))
    assert not (tmp_path / "out").exists()


def python_refusal(model: Path, masks: Path, folder: Path, **settings: object) -> ps.UserError:
    with pytest.raises(ps.UserError) as refusal:
        ps.finetune(model, masks=masks, out=folder / "out", **settings)
    return refusal.value
