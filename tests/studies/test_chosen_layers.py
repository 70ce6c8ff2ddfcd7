"""Chosen layers on the command line and in studies; the layers left dense count in whole-model figures."""

import io

import pandas as pd
import pytest
from transformers import LlamaForCausalLM

from simulator.accelerators import ACCELERATORS
from studies.cli.main import main
from studies.method_entry import MethodEntry
from workloads.bundle import MaskBundle
from workloads.errors import UserError

PRUNE = ["--method", "magnitude", "--sparsity", 0.5]
STUDY = """
title = "Chosen layers"
[[models]]
name = "tiny"
path = "{model}"
[[methods]]
method = "magnitude"
sparsity = 0.5
only = "gate,up"
[[methods]]
method = "generated"
pattern = "2:4"
skip = ["q,k,v", "blocks:1"]
[[accelerators]]
name = "vitcod"
tokens = [4]
"""


def run(*arguments: object) -> int:
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def rows(capsys, *arguments: object) -> pd.DataFrame:
    capsys.readouterr()
    assert run(*arguments, "--format", "csv") == 0
    return pd.read_csv(io.StringIO(capsys.readouterr().out), keep_default_na=False, na_values=["NaN"]).set_index(
        "layer"
    )


def error(capsys, *arguments: object) -> str:
    capsys.readouterr()
    assert run(*arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("prunesim: ")]
    assert len(lines) == 1
    return lines[0]


def test_prune_tells_both_sparsities(tmp_path, capsys, tiny_model):
    assert run("prune", tiny_model, *PRUNE, "--only", "gate,up", "--only", "blocks:0", "--out", tmp_path / "b") == 0
    bundle = MaskBundle.open(tmp_path / "b")
    chosen = [entry for entry in bundle.layers if entry.pattern != "dense"]
    assert [(entry.block, entry.role) for entry in chosen] == [(0, "gate"), (0, "up")]
    share = sum(entry.layer.n_weights for entry in chosen) / sum(entry.layer.n_weights for entry in bundle.layers)
    said = f"{len(bundle)} layers, sparsity {share / 2:.4f} (0.5000 in the 2 chosen, {len(bundle) - 2} left dense)"
    assert said in capsys.readouterr().err
    assert run("check", tmp_path / "b") == 0


def test_a_dry_run_counts_the_chosen(capsys, tiny_model, tmp_path):
    assert run("prune", tiny_model, *PRUNE, "--skip", "blocks:1", "--dry-run", "--out", tmp_path / "b") == 0
    assert "7 linears are chosen, " in capsys.readouterr().out


@pytest.fixture(scope="module")
def full_and_part(tmp_path_factory, tiny_model):
    """All matrices at 8 bits and half of their weights; and the down projections alone."""
    folder = tmp_path_factory.mktemp("bundles")
    for name, only in (("all", []), ("part", ["--only", "down"])):
        assert run("prune", tiny_model, *PRUNE, "--bits", 8, *only, "--out", folder / name) == 0
    return folder / "all", folder / "part"


def test_a_dry_run_refuses_the_base_that_the_run_would(capsys, tiny_model, full_and_part, tmp_path):
    assert run("prune", tiny_model, *PRUNE, "--after", full_and_part[0], "--dry-run", "--out", tmp_path / "b") == 2
    assert "has 8 bits already; quantize last" in capsys.readouterr().err


@pytest.mark.parametrize("accelerator", list(ACCELERATORS))
def test_layers_left_dense_run_as_the_unpruned_ones_on_every_design(accelerator, full_and_part, capsys):
    tokens = ACCELERATORS[accelerator].only_tokens or 4
    full, part = (rows(capsys, "simulate", made, "--on", accelerator, "--tokens", tokens) for made in full_and_part)
    assert list(part.index) == list(full.index)
    left = part["layer_pattern"] == "dense"
    assert set(part.loc[left, "role"]) == {"q", "k", "v", "o", "gate", "up"}
    assert (part["pattern"] == "unstructured").all()  # one configuration, so that sums take all of it
    assert part.loc[left, "cycles"].equals(part.loc[left, "dense_cycles"])
    assert part.loc[left, "speedup"].eq(1).all()
    assert part.loc[~left, "cycles"].equals(full.loc[~left, "cycles"])
    assert part.loc[left, "mapping"].str.startswith("left dense").all()


def test_on_a_gpu_too(tmp_path, capsys, tiny_model):
    run("generate", "--model", tiny_model, "--pattern", "2:4", "--only", "down", "--out", tmp_path / "b")
    found = rows(capsys, "simulate", tmp_path / "b", "--on", "h200", "--tokens", 64)
    left = found["layer_pattern"] == "dense"
    assert left.sum() == len(found) * 6 // 7
    assert (found["pattern"] == "2:4").all()
    assert found.loc[left, "speedup"].eq(1).all()
    assert found.loc[left, "mapping"].str.startswith("dense: the layer was left dense").all()


def test_traces_of_layers_left_dense_are_refused(tmp_path, capsys, tiny_model):
    run("prune", tiny_model, *PRUNE, "--only", "down", "--out", tmp_path / "b")
    asked = [
        "simulate",
        tmp_path / "b",
        "--on",
        "vitcod",
        "--tokens",
        4,
        "--trace",
        tmp_path / "t.json",
        "--layer",
        "q",
    ]
    assert "was left dense" in error(capsys, *asked)


def test_a_study_counts_the_layers_left_dense_and_says_so(tmp_path, capsys, tiny_model):
    (tmp_path / "s.toml").write_text(STUDY.format(model=tiny_model))
    assert run("run", tmp_path / "s.toml", "--out", tmp_path / "out") == 0
    compared = pd.read_csv(tmp_path / "out" / "rows.csv", keep_default_na=False)
    assert set(compared["method"]) == {"magnitude (only gate,up)", "generated (without q,k,v, blocks:1)"}
    for _, part in compared.groupby("method"):
        assert len(part) == 14
    page = (tmp_path / "out" / "report.md").read_text()
    assert "magnitude (only gate,up): 10 of 14 layers of tiny are left dense (q, k, v, o, down)" in page
    assert "50.0 % of the others" in page


def test_a_changed_selection_makes_the_step_again(tmp_path, capsys, tiny_model):
    text = STUDY.format(model=tiny_model)
    for only in ("gate,up", "gate"):
        (tmp_path / "s.toml").write_text(text.replace("gate,up", only))
        assert run("run", tmp_path / "s.toml", "--out", tmp_path / "out") == 0
        found = pd.read_csv(tmp_path / "out" / "rows.csv", keep_default_na=False)
        pruned = found[(found["method"] == f"magnitude (only {only})") & (found["layer_pattern"] != "dense")]
        assert set(pruned["role"]) == set(only.split(","))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('only = "qq"', "no layer has the role 'qq'; did you mean 'q'? there are the roles q k v o gate up down and"),
        ('skip = "blocks:7-"', "no layer is in 'blocks:7-'"), ('only = "blocks:1-0"', "ends before it begins"),
        ('fallback = "skip"', "`fallback=skip` has no meaning"), ('fallback = "skp"', "unknown fallback 'skp'"),
    ],
)  # fmt: skip
def test_wrong_selections_of_a_study_stop_it(tmp_path, capsys, tiny_model, line, message):
    (tmp_path / "s.toml").write_text(STUDY.format(model=tiny_model).replace('only = "gate,up"', line))
    assert message in error(capsys, "run", tmp_path / "s.toml", "--out", tmp_path / "out")


def test_wrong_selections_on_the_command_line(tmp_path, capsys, tiny_model):
    prune = ["prune", tiny_model, *PRUNE, "--out", tmp_path / "b"]
    generate = ["generate", "--model", tiny_model, "--out", tmp_path / "b"]
    for command in (prune, generate):
        for option, value, message in [
            ("--only", "fc1", "no layer has the role 'fc1'; there are the roles q k v o gate up down and "
            "the blocks 0-1"),
            ("--only", "q,", "names nothing between its commas"), ("--skip", "blocks:x", "no range of blocks"),
            ("--skip", "blocks:0-", "no layer is left"), ("--only", "*.attn.*", "no name is like"),
            ("--fallback", "skip", "no meaning"), ("--fallback", "dense", "unknown fallback"),
        ]:  # fmt: skip
            assert message in error(capsys, *command, option, value)
    assert not (tmp_path / "b").exists()


def test_selections_are_part_of_a_title():
    entry = MethodEntry("wanda", sparsity=0.5, only=("gate,up", "blocks:0-1"), skip="down")
    (method,) = entry.runs()
    assert method.title == "wanda (only gate,up in blocks:0-1, without down)"
    with pytest.raises(UserError, match="takes its masks as they are: leave `only` out"):
        MethodEntry(masks="x", only="q").runs()


def test_a_tied_head_is_no_matrix_of_its_own_before_or_after_the_run(tiny_model, tmp_path, capsys):
    """What prune ends with is what the bundle records, whatever the run, calibrated, did to the model."""
    folder = tmp_path / "tied"
    model = LlamaForCausalLM.from_pretrained(tiny_model)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "calibration.txt"):
        (folder / name).write_bytes((tiny_model / name).read_bytes())
    calibrated = ["--method", "wanda", "--sparsity", 0.5, "--calibration", folder / "calibration.txt"]
    assert run("prune", folder, *calibrated, "--samples", 2, "--seq-len", 32, "--out", tmp_path / "b") == 0
    said = capsys.readouterr().err
    assert "14 of 15 matrices" in said
    matrices = MaskBundle.open(tmp_path / "b").header.model_config["matrices"]
    assert (matrices["handled"], matrices["in_model"]) == (14, 15)
