"""A report of rows of whole models that no study made: files of `prunesim inference`, and objects."""

import json

import pytest

import prunesim as ps
from studies.cli.main import main

CONFIG = {
    "model_type": "llama", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("rows")
    (place / "small.json").write_text(json.dumps(CONFIG))
    asked = [
        "inference",
        place / "small.json",
        "--on",
        "h100-sxm",
        "--batch",
        "1,4,16",
        "--prompt",
        64,
        "--generate",
        4,
    ]
    asked += ["--treat", "dense,int4"]
    for name, more in {
        "rows.csv": ["--format", "csv"], "rows.json": ["--format", "json"],
        "operations.csv": ["--format", "csv", "--operations"],
    }.items():  # fmt: skip
        assert run(*asked, *more, "--out", place / name) == 0
    return place


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(each) for each in arguments])
    return int(stop.value.code or 0)


@pytest.mark.parametrize("name", ["rows.csv", "rows.json"])
def test_a_file_alone_gives_a_page(name, folder, tmp_path):
    assert run("report", folder / name, "--out", tmp_path / "page") == 0
    text = (tmp_path / "page" / "report.md").read_text()
    for heading in ("In short", "Whole models", "Amdahl's law", "Tokens a second over sequences"):
        assert f"## {heading}" in text
    assert "Roofline" not in text
    assert (tmp_path / "page" / "inference.csv").is_file()


def test_with_operations_it_has_a_roofline_and_its_folder_reads_back(folder, tmp_path):
    assert run("report", folder / "rows.csv", folder / "operations.csv", "--out", tmp_path / "page") == 0
    first = (tmp_path / "page" / "report.md").read_text()
    assert "## Roofline" in first
    assert run("report", tmp_path / "page", "--out", tmp_path / "again") == 0
    assert (tmp_path / "again" / "report.md").read_text() == first


def test_of_python(folder, tmp_path):
    rows = ps.inference(folder / "small.json", on="vitcod", batch=[1, 4], prompt=16, generate=2)
    report = ps.report(rows, folder / "rows.csv", out=tmp_path / "page")
    text = report.files["report.md"].read_text()
    assert "vitcod" in text
    assert "h100-sxm" in text


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["operations.csv"], "operations of whole models alone"),
        (["small.json"], "a list of objects"),
        (["half.csv"], "it lacks the column 'batch'"),
        (["none.csv"], "cannot read rows"),
        (["empty"], "holds none of rows.csv"),
    ],
)
def test_bad_input_is_one_line(names, message, folder, tmp_path, capsys):
    (folder / "empty").mkdir(exist_ok=True)
    (folder / "half.csv").write_text("model,method,target,tokens_per_s,prefill_ms\nm,,h100-sxm,1,1\n")
    assert run("report", *(folder / name for name in names), "--out", tmp_path / "page") == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "page" / "report.html").exists()
