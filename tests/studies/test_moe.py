"""A mixture of experts from its config to a report, on an accelerator and a GPU, under two assumptions on its
router."""

import json

import pandas as pd
import pytest

from studies.cli.main import main

CONFIG = {
    "model_type": "mixtral", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 64, "num_local_experts": 4, "num_experts_per_tok": 2,
}  # fmt: skip
STUDY = """
title = "experts"
[[models]]
name = "moe"
shapes = "moe"
[[methods]]
method = "generated"
pattern = "2:4"
[[accelerators]]
name = "stc"
tokens = [2]
[[accelerators]]
name = "stc"
tokens = [2]
routing = "balanced"
[[accelerators]]
name = "a100-sxm"
tokens = [256]
routing = "counts.json"
"""


def run(*arguments: object) -> int:
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "moe").mkdir()
    (tmp_path / "moe" / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "counts.json").write_text("[256, 128, 128, 0]")
    (tmp_path / "s.toml").write_text(STUDY)
    return tmp_path


def test_the_table_says_what_experts_get(folder, capsys):
    arguments = ["simulate", "--model", folder / "moe", "--pattern", "2:4", "--on", "stc", "--tokens", 2]
    assert run(*arguments, "--format", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    experts = [row for row in rows if row["role"].startswith("expert_")]
    assert {(row["executions"], row["routing"]) for row in experts} == {(0.75, "uniform, top 2 of 4")}
    assert experts[0]["layer_tokens"] == pytest.approx(2 * 0.5 / 0.75)
    assert run(*arguments) == 0
    assert "executions" in capsys.readouterr().out


@pytest.mark.parametrize("routing", ["balanced", "counts.json"])
def test_a_router_asked_for_where_there_is_none(routing, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert run("simulate", "--model", "llama-7b", "--pattern", "2:4", "--on", "stc", "--routing", routing) == 2
    assert "llama-7b has no config that says how many experts see a token" in capsys.readouterr().err


def test_a_study_of_two_routers_and_counts(folder, capsys):
    assert run("run", folder / "s.toml", "--out", folder / "out") == 0
    rows = pd.read_csv(folder / "out" / "rows.csv")
    experts = rows[rows["role"].str.startswith("expert_")]
    by_target = experts.groupby(["target", experts["routing"].str.partition(",")[0].str.partition(":")[0]])
    assert by_target["executions"].mean().round(4).to_dict() == {
        ("a100-sxm", "counts"): 0.75, ("stc", "balanced"): 1.0, ("stc", "uniform"): 0.75,
    }  # fmt: skip
    page = (folder / "out" / "report.md").read_text()
    assert "uniform, top 2 of 4" in page
    assert "routing=balanced" in page
    assert "as if all tokens" not in page
    capsys.readouterr()
    for arguments, unchanged in (([], 4), (["--fresh"], 1)):  # masks, and three steps of cycles and times
        assert run("run", folder / "s.toml", "--out", folder / "out", *arguments) == 0
        assert f"{unchanged} of 4 steps were unchanged" in capsys.readouterr().err
    (folder / "counts.json").write_text("[1, 2]")
    assert run("run", folder / "s.toml", "--out", folder / "out") == 2
    assert "2 counts for block 0, which has 4 experts" in capsys.readouterr().err
