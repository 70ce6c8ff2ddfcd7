"""Pruning for a speed, from the command line: the speed is met by the final masks, as `inference` sees them."""

import json
from pathlib import Path

import pandas as pd
import pytest

from studies.cli.main import main
from tests.studies.speed.conftest import prune
from workloads.bundle import MaskBundle
from workloads.choices import parse_choice
from workloads.cost_table import CostTable

DECODE = ("--on", "vitcod", "--phase", "decode", "--context", "16")
QUICK = ("--errors", "output", "--levels", 6, "--searches", 4)


def simulated_speedup(bundle: Path, capsys) -> float:
    """Of one token behind a prompt of 15 by `inference`: of its steps the second is such a decode."""
    table = bundle.parent / "rows.json"
    with pytest.raises(SystemExit):
        main(["inference", str(bundle), "--on", "vitcod", "--prompt", "15", "--generate", "2", "--format", "json",
              "--out", str(table)])  # fmt: skip
    with pytest.raises(SystemExit):
        main(["inference", str(bundle), "--on", "vitcod", "--prompt", "15", "--generate", "2", "--operations",
              "--format", "csv", "--out", str(bundle.parent / "operations.csv")])  # fmt: skip
    rows = pd.read_csv(bundle.parent / "operations.csv")
    return float(rows[rows.phase == "decode"].latency_us.sum())


@pytest.mark.parametrize("choices", ["unstructured", "unstructured,2:4,bits:4"])
def test_the_speed_is_met_with_the_final_masks(model: Path, tmp_path: Path, capsys, choices: str) -> None:
    out = tmp_path / "masks"
    assert prune(model, out, "--speedup", "1.2", *DECODE, "--choices", choices) == 0
    said = capsys.readouterr().err
    kept = json.loads((out / "speed.json").read_text())
    met, table = kept["met"], CostTable.read(out / "costs.json")
    assert met["final"] >= 1.2
    assert [one["name"] for one in met["judged"]] == ["knapsack", "even", "owl", "searched"]
    assert all(f"{one['name']} {one['kl']:.4g} at {one['final']:.3f}" in said for one in met["judged"])
    assert f"with the final masks {met['final']:.3f}" in said
    assert met["unpruned_us"] == pytest.approx(table.dense)
    assert simulated_speedup(out, capsys) == pytest.approx(met["final_us"])
    names = [layer for unit in table.units for layer in unit.layers]
    at = {name: list(map(str, table.choices)).index(kept["plan"].get(name, "dense")) for name in names}
    additive = table.fixed + sum(table.costs[n, at[name]] for n, name in enumerate(names))
    assert table.dense / additive == pytest.approx(met["additive"])
    bundle = MaskBundle.open(out)
    for entry in bundle.layers:
        choice = parse_choice(kept["plan"].get(entry.name, "dense"))
        assert entry.weight_bits == choice.bits
        assert entry.sparsity == pytest.approx(choice.sparsity, abs=2 / entry.layer.n_weights)
    assert not (tmp_path / ".masks.speed").exists()
    before = bundle.sha256
    assert prune(model, out, "--speedup", "1.2", *DECODE, "--choices", choices) == 0  # it is there
    assert MaskBundle.open(out).sha256 == before


STUDY = """
title = "Speed"
[[models]]
name = "small"
path = "{model}"
[[methods]]
masks = "{masks}"
label = "fast"
[[accelerators]]
name = "vitcod"
tokens = [1]
"""


def test_show_and_reports_tell_the_speed(model: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "masks"
    assert prune(model, out, "--speedup", "1.1", *DECODE, *QUICK) == 0
    met = json.loads((out / "speed.json").read_text())["met"]
    line = f"speedup: asked 1.1, by the sum of the table {met['additive']:.3f}, with the final masks {met['final']:.3f}"
    with pytest.raises(SystemExit):
        main(["show", str(out)])
    assert line in capsys.readouterr().out
    (tmp_path / "study.toml").write_text(STUDY.format(model=model, masks=out))
    with pytest.raises(SystemExit) as stop:
        main(["run", str(tmp_path / "study.toml"), "--out", str(tmp_path / "report")])
    assert not stop.value.code
    assert line in (tmp_path / "report" / "report.md").read_text()


def test_another_method_prunes_by_the_plan(model: Path, tmp_path: Path) -> None:
    assert prune(model, tmp_path / "masks", "--speedup", "1.1", *DECODE, *QUICK, method="sparsegpt") == 0
    bundle = MaskBundle.open(tmp_path / "masks")
    assert bundle.header.method == "sparsegpt"
    assert bundle.values(bundle.layers[-1].name) or any(entry.values for entry in bundle.layers)


@pytest.mark.slow
def test_besa_learns_within_what_the_plan_lets_blocks_cost(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "masks"
    arguments = ("--speedup", "1.1", *DECODE, "--levels", 8, "--errors", "output", "--set", "rounds=1")
    assert prune(model, out, *arguments, method="besa") == 0
    assert json.loads((out / "speed.json").read_text())["met"]["final"] >= 1.1
    header = MaskBundle.open(out).header
    assert header.method == "besa"
    assert header.parameters["costs"]["sha256"] == CostTable.read(out / "costs.json").sha256


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--speedup", "nan", *DECODE), "--speedup nan: at least 1"),
        (("--speedup", "inf", *DECODE), "--speedup inf: at least 1"),
        (("--speedup", "9", *DECODE), "with the cheapest choice everywhere it is"),
        (("--speedup", "1.2"), "say which with --on"),
        (("--on", "vitcod", "--sparsity", "0.5"), "--on is of pruning for a speed"),
        (("--speedup", "1.2", *DECODE, "--sparsity", "0.5"), "leave --sparsity out"),
        (("--speedup", "1.2", *DECODE, "--choices", "half"), "unknown kind of choice"),
        (("--speedup", "1.2", *DECODE, "--choices", "heads"), "name what meets the rest of the speed"),
        (("--speedup", "1.2", *DECODE, "--errors", "l2"), "unknown kind of --errors"),
        (("--speedup", "1.2", *DECODE, "--prompt", "8"), "decode has no `prompt`"),
        (("--speedup", "1.1", *DECODE, "--choices", "bits:4,bits:3"), "names two numbers of bits"),
        (("--speedup", "1.5", "--on", "a100-sxm", "--context", "16", "--choices", "2:4"), "cannot be reached"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(model: Path, tmp_path: Path, capsys, arguments, message: str) -> None:
    assert prune(model, tmp_path / "masks", *arguments) == 2
    said = capsys.readouterr().err
    assert message.replace("`prompt`", "--prompt") in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_the_method_need_not_be_named(model: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["prune", str(model), "--speedup", "1.1", *DECODE, *map(str, QUICK), "--calibration",
              str(model / "ids.npy"), "--out", str(tmp_path / "masks")])  # fmt: skip
    assert not stop.value.code
    assert MaskBundle.open(tmp_path / "masks").header.method == "wanda"


def test_a_run_that_ended_half_way_goes_on(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from studies.speed import meet

    whole = meet.whole_us

    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(meet, "whole_us", killed)
    asked = ("--speedup", "1.2", *DECODE, *QUICK)
    assert prune(model, tmp_path / "masks", *asked) == 130
    assert (tmp_path / ".masks.speed" / "errors.json").is_file()
    monkeypatch.setattr(meet, "whole_us", whole)
    monkeypatch.setattr(meet, "error_table", killed)  # they are there
    assert prune(model, tmp_path / "masks", *asked) == 0
    monkeypatch.undo()
    assert prune(model, tmp_path / "fresh", *asked) == 0
    assert MaskBundle.open(tmp_path / "masks").sha256 == MaskBundle.open(tmp_path / "fresh").sha256


def test_what_was_taken_out_before_counts(model: Path, tmp_path: Path, capsys) -> None:
    """Neurons first, then masks until the whole is as fast as asked, against the unpruned model."""
    small = tmp_path / "small"
    assert prune(model, small, "--sparsity", "0.25", "--set", "units=ffn", method="obs-sp") == 0
    out, flat = tmp_path / "masks", tmp_path / "flat"
    assert prune(model, out, "--speedup", "1.2", *DECODE, *QUICK, "--after", str(small)) == 0
    assert prune(model, flat, "--speedup", "1.2", *DECODE, *QUICK) == 0
    kept = json.loads((out / "speed.json").read_text())["met"]
    other = json.loads((flat / "speed.json").read_text())["met"]
    assert kept["final"] >= 1.2
    assert kept["unpruned_us"] == pytest.approx(other["unpruned_us"])
    assert simulated_speedup(out, capsys) == pytest.approx(kept["final_us"])
    bundle = MaskBundle.open(out)
    assert bundle.is_smaller
    masked = [entry for entry in bundle.layers if entry.pattern == "unstructured"]
    plain = [entry for entry in MaskBundle.open(flat).layers if entry.pattern == "unstructured"]
    assert sum(e.layer.n_weights - e.nnz for e in masked) < sum(e.layer.n_weights - e.nnz for e in plain)
    capsys.readouterr()
    assert prune(model, out, "--speedup", "1.3", *DECODE, "--after", str(small)) == 2
    assert "already holds masks of another speed" in capsys.readouterr().err
    assert prune(model, tmp_path / "x", "--speedup", "1.3", *DECODE, "--after", str(flat)) == 2
    assert "holds masks already" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("kinds", ["neurons,heads", "blocks,neurons"])
def test_what_goes_of_each_block_is_planned_first(model: Path, tmp_path: Path, capsys, kinds: str) -> None:
    """The one with the nearest predictions is taken; each alone is as its own run with what was taken out."""
    out, quick = tmp_path / "masks", ("--errors", "output", "--levels", 6, "--searches", 0)
    assert prune(model, out, "--speedup", "1.25", *DECODE, "--choices", f"unstructured,{kinds}", *quick) == 0
    said = capsys.readouterr().err
    met = json.loads((out / "speed.json").read_text())["met"]
    assert met["final"] >= 1.25
    assert met["shapes"] > 1
    assert f"the nearest to the unpruned model of {met['shapes']} shapes" in said
    assert simulated_speedup(out, capsys) == pytest.approx(met["final_us"])
    assert CostTable.read(out / "costs.json").reference == pytest.approx(met["unpruned_us"])
    assert not (tmp_path / ".masks.speed").exists()
