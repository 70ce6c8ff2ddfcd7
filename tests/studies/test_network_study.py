"""A study of a network that is no language model, of a file beside it."""

import pandas as pd
import pytest

from pruning import networks
from pruning.allocations import Allocation
from pruning.families import ModelFamily
from pruning.methods import PruningMethod
from pruning.quantizers import Quantizer
from studies.cli.main import main
from studies.running.study_run import run_study
from studies.study import read_study
from tests.pruning.nets import FAMILY
from workloads.errors import UserError

STUDY = """
title = "A network"

[[models]]
name = "net"
path = "tiny.py:Tiny"
samples = 6

[[methods]]
method = "wanda"
sparsity = 0.5

[[methods]]
method = "magnitude-sp"
sparsity = 0.3

[[accelerators]]
name = "vitcod"
tokens = 2

[[accelerators]]
name = "stc"
tokens = 2
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    (folder / "tiny.py").write_text(FAMILY)
    (folder / "study.toml").write_text(STUDY)
    files = run_study(read_study(folder / "study.toml"), folder / "out")
    return folder, files


def test_quality_and_rows_stand_in_one_report(made):
    _, files = made
    quality, rows = pd.read_csv(files["quality.csv"]), pd.read_csv(files["rows.csv"])
    assert list(quality["method"]) == ["dense", "wanda", "magnitude-sp"]
    assert quality["value"].iloc[0] == 0  # of the dense network against itself
    assert (quality["value"].iloc[1:] > 0).all()
    assert set(quality["metric"]) == {"error"}
    assert quality["perplexity"].isna().all()
    assert "net: error, lower is better, over 16 samples" in files["report.md"].read_text()
    assert "net, vitcod (cycle level), 2 samples: " in files["report.md"].read_text()
    assert "decode" not in files["report.md"].read_text().split("##")[1]
    stem = rows[(rows["layer"] == "stem") & (rows["method"] == "wanda")]
    assert set(stem["layer_tokens"]) == {2 * 144}
    assert stem["mapping"].str.startswith("convolution 3x3 stride 1x1 by im2col, 12x12 positions; ").all()


def test_a_study_without_machines_has_a_report(made):
    folder, _ = made
    alone = STUDY.split("[[accelerators]]")[0]
    (folder / "alone.toml").write_text(alone)
    files = run_study(read_study(folder / "alone.toml"), folder / "alone")
    page = files["report.md"].read_text()
    assert "rows.csv" not in files
    assert "net: error, lower is better, over 16 samples" in page
    assert page.index("Provenance") < page.index("Tool version") < page.index("Seeds")


def test_nothing_is_made_twice(made, capsys):
    folder, _ = made
    run_study(read_study(folder / "study.toml"), folder / "out")
    assert "steps were unchanged" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["measure", "samples", "build"])
def test_what_a_family_lacks_is_no_fault_of_ours(tmp_path, missing, capsys):
    """One line with exit code 2, as for every mistake in what was given."""
    (tmp_path / "bare.py").write_text(FAMILY.replace(f"def {missing}(", f"def other_{missing}("))
    with pytest.raises(SystemExit) as stop:
        main(["eval", f"{tmp_path / 'bare.py'}:Tiny"])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert f"Tiny has no `{missing}()`, which this needs" in said
    assert said.count("\n") == 1


def test_a_study_of_such_a_family_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "tiny.py").write_text(FAMILY.replace("def measure(", "def other("))
    (tmp_path / "study.toml").write_text(STUDY)
    with pytest.raises(UserError, match=r"study.toml: model 'net': Tiny has no `measure\(\)`"):
        run_study(read_study(tmp_path / "study.toml"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("base", "call"),
    [
        (PruningMethod, lambda own: own.score(None, None)),
        (Quantizer, lambda own: own.apply(None, {})),
        (Allocation, lambda own: own.allocate(None)),
        (ModelFamily, lambda own: own.probe(None)),
    ],
)
def test_so_is_what_other_classes_of_ones_own_lack(base, call):
    class Mine(base):
        name = "mine"

    with pytest.raises(UserError, match=r"Mine has no `\w+\(\)`.*, which this needs; write it"):
        call(Mine())


def test_a_network_whose_package_is_absent_is_left_out(made, monkeypatch):
    folder, _ = made
    monkeypatch.setattr(networks, "find_spec", lambda name: None)
    text = STUDY.replace("tiny.py:Tiny", "crepe:tiny").replace("samples = 6", "optional = true")
    (folder / "absent.toml").write_text(text)
    with pytest.raises(UserError, match="none of its optional models is there"):
        read_study(folder / "absent.toml")
