"""The table of all methods: which cells there are."""

import sys
from pathlib import Path
from typing import Any

import pytest

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
