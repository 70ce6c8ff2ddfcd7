"""More than one thing asked of the same masks: the other phase, energy, bytes, FLOP, parameters."""

import json
from pathlib import Path

import pytest

import prunesim as ps
from studies.speed.demands import parse_also
from tests.studies.speed.conftest import prune
from workloads.bundle import MaskBundle
from workloads.cost_table import CostTable
from workloads.errors import UserError

SIZES = ("--on", "vitcod", "--phase", "decode", "--context", "16", "--levels", 8, "--errors", "output", "--searches", 0)


MOVED = [f"{kind}_bytes" for kind in ("weight", "metadata", "scale", "activation", "output")]
RATIOS = {"energy_pj": (["dense_energy_pj"], ["energy_pj"]), "bytes": (["dense_bytes"], MOVED)}


def met_of(out: Path) -> dict:
    return json.loads((out / "speed.json").read_text())["met"]


@pytest.mark.parametrize("phase", ["prefill", "parameters"])
def test_both_are_met_with_the_same_masks(model: Path, tmp_path: Path, capsys, phase: str) -> None:
    asked = 1.15 if phase == "prefill" else 2.5
    out = tmp_path / "masks"
    assert prune(model, out, "--speedup", 1.1, *SIZES, "--also", f"{phase}:{asked}", "--prompt", 16) == (
        0 if phase == "prefill" else 2
    )  # a prompt is of prefill
    if phase == "parameters":
        assert "decode has no --prompt" in capsys.readouterr().err
        assert prune(model, out, "--speedup", 1.1, *SIZES, "--also", f"{phase}:{asked}") == 0
    met = met_of(out)
    assert met["final"] >= 1.1
    assert met["also"][phase][0] == asked
    assert met["also"][phase][1] >= asked
    assert f"{phase}: asked {asked:g}, with the final masks {met['also'][phase][1]:.3f}" in capsys.readouterr().err
    if phase == "parameters":
        layers = MaskBundle.open(out).layers
        assert sum(e.layer.n_weights for e in layers) / sum(e.nnz for e in layers) == pytest.approx(
            met["also"][phase][1]
        )
    else:  # the other phase alone, met by as much
        alone = tmp_path / "alone"
        flat = [*SIZES[:2], "--phase", "prefill", "--prompt", 16, *SIZES[6:]]
        assert prune(model, alone, "--speedup", met["also"][phase][1], *flat) == 0
        dense = met_of(alone)["unpruned_us"]
        assert CostTable.read(alone / "costs.json").reference == pytest.approx(dense)


@pytest.mark.parametrize("what", ["energy_pj", "bytes", "flop"])
def test_of_other_measures_the_masks_are_counted(model: Path, tmp_path: Path, what: str) -> None:
    out = tmp_path / "masks"
    assert prune(model, out, "--speedup", 1.0, *SIZES, "--also", f"{what}:1.3") == 0
    assert met_of(out)["also"][what][1] >= 1.3
    if what in RATIOS:
        rows = ps.simulate(out, on="vitcod", tokens=1).frame
        dense, masked = (rows[[*names]].sum().sum() for names in RATIOS[what])
        assert met_of(out)["also"][what][1] == pytest.approx(dense / masked)
    else:
        layers = MaskBundle.open(out).layers
        fewer = sum(e.layer.n_weights for e in layers) / sum(e.nnz for e in layers)
        assert met_of(out)["also"][what][1] == pytest.approx(fewer)


def test_also_is_read() -> None:
    assert parse_also("prefill:1.25, energy_pj:1.4") == {"prefill": 1.25, "energy_pj": 1.4}
    assert parse_also(None) == {}
    for text, words in (
        ("prefil:1.2", "a name of prefill, decode, energy_pj"), ("prefill", "a factor of 1 or more"),
        ("flop:0.5", "a factor of 1 or more"), ("flop:nan", "1 or more"), ("flop:2,flop:3", "names flop twice"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            parse_also(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--also", "decode:1.2"), "names the phase of --speedup again"),
        (("--also", "flop:1.2", "--choices", "unstructured,heads"), "--also is of masks on the whole model"),
        (("--also", "parameters:99"), "--also parameters:99 on vitcod cannot be reached"),
        (("--also", "us:2"), "a name of prefill"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(model: Path, tmp_path: Path, capsys, arguments, message: str) -> None:
    assert prune(model, tmp_path / "masks", "--speedup", 1.1, *SIZES, *arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())
