"""The table of all methods: which cells there are, that each is made once, and what is printed of them."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measuring import Measured
from tests.pruning.nets import FAMILY

ROOT = Path(__file__).parents[2]


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program as a module, a decoder and two networks its models, three methods its lines."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.delitem(sys.modules, "all_methods", raising=False)
    import all_methods

    lines = {name: all_methods.Line(name, (0.5, "2:4")) for name in ("wanda", "wanda-pp", "blockdense")}
    monkeypatch.setattr(all_methods, "LINES", lines)
    return all_methods


def keys(table: Any, only: str = "", models: tuple[str, ...] = ("crepe", "silero"), seeds: int = 1) -> list[str]:
    return [cell.key for cell in table.cells(models, seeds, only)]


def test_every_seed_has_all_models_and_lines_after_the_unpruned_models(table):
    found = keys(table, seeds=2)
    assert found[:3] == [
        "crepe | dense | dense | seed 1",
        "silero | dense | dense | seed 1",
        "crepe | wanda | 50% | seed 1",
    ]
    assert len(found) == len(set(found)) == 2 + 2 * 2 * 3 * 2
    assert [key[-1] for key in found[2:]] == ["1"] * 12 + ["2"] * 12


@pytest.mark.parametrize(
    ("only", "wanted"),
    [
        ("dense", {"dense"}),
        ("blockdense", {"blockdense"}),
        ("wanda", {"wanda", "wanda-pp"}),
        ("wanda ", {"wanda"}),
        ("pp", {"wanda-pp"}),
        ("^silero . (dense|wanda) ", {"dense", "wanda"}),
        ("2:4", {"wanda", "wanda-pp", "blockdense"}),
    ],
)
def test_only_is_found_at_the_beginning_of_words(table, only, wanted):
    assert {key.split(" | ")[1] for key in keys(table, only)} == wanted


def test_a_model_that_is_not_there_is_left_out_with_a_line(table, tmp_path, monkeypatch, capsys):
    text = tmp_path / "text.txt"
    text.write_text("words")
    asked = {"calibration": str(text)}, {"text": str(text)}, {"text": str(text)}
    there = table.Model(str(tmp_path), *asked)
    models = {
        "there": there,
        "folderless": table.Model(str(tmp_path / "gone"), *asked),
        "textless": table.Model(str(tmp_path), asked[0], {"text": str(tmp_path / "gone.txt")}, asked[2]),
    }
    monkeypatch.setattr(table, "MODELS", models)
    assert table.there("textless,there,folderless") == ["there"]
    assert capsys.readouterr().out.splitlines() == [
        f"textless is left out: there is no {tmp_path / 'gone.txt'}",
        f"folderless is left out: there is no {tmp_path / 'gone'}",
    ]
    with pytest.raises(SystemExit, match="no model demo; there are there, folderless, textless"):
        table.there("demo,there")


def test_a_network_needs_its_package(table, monkeypatch):
    import pruning.networks

    monkeypatch.setattr(pruning.networks, "find_spec", lambda name: None if name == "torchcrepe" else object())
    assert table.MODELS["crepe"].lacks == "torchcrepe"
    assert table.MODELS["silero"].lacks == ""


@pytest.fixture
def tiny(table, tmp_path, monkeypatch):
    """Runs the program with some arguments on one small network, in this process; `tiny.made` are its cells so far."""
    (tmp_path / "tiny.py").write_text(FAMILY)
    model = table.Model(f"{tmp_path / 'tiny.py'}:Tiny", {"samples": 8}, {}, {"samples": 16, "batch": 4})
    monkeypatch.setattr(table, "MODELS", {"tiny": model})
    lines = {"magnitude": table.Line("magnitude", (0.5,)), "shortgpt": table.Line("shortgpt", (0.3,))}
    monkeypatch.setattr(table, "LINES", lines)
    monkeypatch.setattr(table, "ON", ("systolic",))
    made: list[str] = []

    def measured(prepare, work, own):
        made.extend(cell.key for cell in own)
        table.run(work, own)
        return Measured(1.0, 0.5, 2.25)

    def run(*words: str) -> list[str]:
        made.clear()
        monkeypatch.setattr(
            sys, "argv", ["", "--work", str(tmp_path / "out"), "--models", "tiny", "--steps", "2", *words]
        )
        table.main()
        return list(made)

    monkeypatch.setattr(table, "measure", measured)
    return run


def cells_in(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "cells.json").read_text())


DENSE, MASKED, REFUSED = (f"tiny | {rest} | seed 1" for rest in ("dense | dense", "magnitude | 50%", "shortgpt | 30%"))


def test_cells_are_made_once_and_a_refusal_is_a_line(tiny, tmp_path, capsys):
    assert tiny("--only", "magnitude|shortgpt") == [MASKED, REFUSED]
    facts = cells_in(tmp_path / "out")
    assert facts[MASKED]["sparsity"] == pytest.approx(0.5, abs=0.02)
    assert 0 < facts[MASKED]["after"] < facts[MASKED]["before"]
    assert facts[MASKED]["speedup"].keys() == {"systolic"}
    assert facts[MASKED]["peak_gb"] == 2.25
    assert "before" not in facts[REFUSED]
    capsys.readouterr()
    assert tiny() == [DENSE]
    assert cells_in(tmp_path / "out") == facts | {DENSE: cells_in(tmp_path / "out")[DENSE]}
    assert cells_in(tmp_path / "out")[DENSE]["before"] == 0  # its quality is how far it is from the unpruned network
    assert f"| tiny | shortgpt | 30% | {facts[REFUSED]['refused']} |" in capsys.readouterr().out.splitlines()
    assert tiny() == []


def test_masks_of_cells_that_are_there_are_made_alone_and_measured_later(tiny, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="keeps no masks of these cells"):
        tiny("--measure")
    tiny("--only", "magnitude|shortgpt")
    before, masks = cells_in(tmp_path / "out"), tmp_path / "out" / "masks" / "tiny-magnitude-50-seed-1"
    assert not masks.exists()
    assert tiny("--only", "magnitude|shortgpt", "--keep-masks") == [MASKED]
    assert cells_in(tmp_path / "out") == before
    assert tiny("--only", "magnitude|shortgpt", "--keep-masks") == []

    import measured_masks

    monkeypatch.setattr(measured_masks, "speedups", lambda kept, samples, folder: dict.fromkeys(kept, 1.5))
    capsys.readouterr()
    assert tiny("--measure") == []
    assert cells_in(tmp_path / "out") == before | {MASKED: before[MASKED] | {"measured": 1.5}}
    assert "this CPU (--measure)" in capsys.readouterr().out
    assert (masks / "bundle.json").exists()


def test_masks_of_a_new_cell_of_the_first_seed_are_kept(tiny, tmp_path):
    import prunesim as ps

    tiny("--only", "magnitude", "--keep-masks", "--seeds", "2")
    kept = list((tmp_path / "out" / "masks").iterdir())
    assert [folder.name for folder in kept] == ["tiny-magnitude-50-seed-1"]
    ps.MaskBundle.open(kept[0]).validate()
    assert cells_in(tmp_path / "out").keys() == {MASKED, MASKED.replace("seed 1", "seed 2")}


def test_the_table_has_mean_and_spread_over_seeds(table):
    """Of 1, 2, 6: mean 3, standard deviation sqrt(7); of one value no spread, and of none nothing."""

    def facts(before, vitcod, peak):
        speedup = {"vitcod": vitcod, "stc": "no", "systolic": 1.0}
        return {"before": before, "after": 2 * before, "speedup": speedup, "seconds": {"prune": 4.0}, "peak_gb": peak}

    found = {
        f"net | wanda | 50% | seed {n}": facts(*some) for n, some in enumerate([(1.0, 1.5, 0.5), (2.0, 2.5, 0.5)], 1)
    }
    found["net | wanda | 50% | seed 3"] = facts(6.0, 2.0, 0.5) | {"measured": 1.25}
    found["net | ria | 50% | seed 1"] = {"refused": "no rows", "seconds": {}}
    head, _, wanda, ria = table.table(found, table.ON).splitlines()
    assert head == (
        "| model | method | target | before | after | vitcod | stc | systolic | this CPU (--measure) "
        "| CPU s to prune | peak GB |"
    )
    assert wanda == ("| net | wanda | 50% | 3 +- 2.6 | 6 +- 5.3 | 2x +- 0.5 |  | 1x +- 0 | 1.25x | 4 +- 0 | 0.5 +- 0 |")
    assert ria == "| net | ria | 50% | no rows |"


def test_the_page_of_a_model(table):
    """Seeds 1 and 2 at 50 %: before 2 and 4, after 1 and 2, 1.5 and 2.5 times; one seed at 30 %, not recovered."""

    def facts(before, vitcod, **more):
        speedup = {"vitcod": vitcod, "stc": "no", "systolic": 1.0}
        return {"before": before, "sparsity": 0.325, "speedup": speedup, "seconds": {}} | more

    found = {
        "net | dense | dense | seed 1": {"before": 1.0, "seconds": {}},
        "net | wanda | 50% | seed 1": facts(2.0, 1.5, after=1.0),
        "other | wanda | 50% | seed 1": facts(9.0, 9.5),
        "net | wanda | 50% | seed 2": facts(4.0, 2.5, after=2.0),
        "net | wanda | 70% | seed 1": {"refused": "no rows", "seconds": {}},
        "net | flap | 30% | seed 1": facts(7.0, 1.25),
    }
    assert table.page(found, "net", table.ON).splitlines() == [
        "| | 50 % | | 70 % | | 2:4 | |",
        "|---|---|---|---|---|---|---|",
        "| `wanda` | 3 +- 1.4 / 1.5 +- 0.71 | 2.00x | \N{EN DASH} | \N{EN DASH} | \N{EN DASH} | \N{EN DASH} |",
        "",
        "| | 30 % asked, of weights gone | before / after | `vitcod` | `stc` | `systolic` |",
        "|---|---|---|---|---|---|",
        "| `flap` | 32.5% | 7 / \N{EN DASH} | 1.25x | \N{EN DASH} | 1.00x |",
    ]
    assert table.page(found, "another", table.ON) == "No cell of another is there."
