"""Choices in words, and the table of what they cost."""

from pathlib import Path

import numpy as np
import pytest

from workloads.choices import choices_of, parse_choice
from workloads.cost_table import CostTable, Unit
from workloads.errors import UserError

CHOICES = tuple(choices_of(["2:4", "bits:4"]))


def table(fixed: float = 10.0) -> CostTable:
    """Costs of 30 and 60 that choices halve, and a machine that cannot run the last."""
    costs = np.outer([30.0, 60.0], [1.0, 0.5, 0.75, 0.25])
    costs[1, 3] = np.nan
    units = (Unit("a", ("x", "y"), 8), Unit("b", ("z",), 16))
    return CostTable("us", units, CHOICES, costs, fixed, {"target": "chip", "phase": {"new": 1}})


@pytest.mark.parametrize(
    "text", ["dense", "unstructured-48", "2:4", "bits:4", "2:4+bits:4", "unstructured-12.5+bits:3"]
)
def test_choices_are_said_as_they_are_read(text: str) -> None:
    assert str(parse_choice(text)) == text


def test_kinds_stand_for_every_combination() -> None:
    made = choices_of(["unstructured", "2:4", "bits:4"], levels=3)
    assert [str(choice) for choice in made] == [
        "dense", "unstructured-43.75", "unstructured-87.5", "2:4",
        "bits:4", "unstructured-43.75+bits:4", "unstructured-87.5+bits:4", "2:4+bits:4",
    ]  # fmt: skip
    assert [choice.zeros for choice in choices_of(["unstructured"])] == [i / 16 for i in range(15)]


@pytest.mark.parametrize("kinds", [["structured"], ["unstructured-50"], ["2:4+bits:4"], ["4:2"], ["bits:9"]])
def test_kinds_that_are_none(kinds: list[str]) -> None:
    with pytest.raises(UserError):
        choices_of(kinds)


def test_a_choice_has_one_mask() -> None:
    with pytest.raises(UserError, match="two masks"):
        parse_choice("unstructured-50+2:4")


def test_budgets_leave_out_what_no_choice_changes() -> None:
    assert table().dense == 100
    assert table().budget(1.25) == pytest.approx(70)
    least = 30 * 0.25 + 60 * 0.5  # the cheapest of each
    assert table().budget(100 / (10 + least)) == pytest.approx(least)


def test_a_speedup_out_of_reach_says_the_best() -> None:
    with pytest.raises(UserError, match=r"`speedup` 3 on chip .* it is 2\.105, and 10\.0% of the dense us is fixed"):
        table().budget(3)
    with pytest.raises(UserError, match="at least 1"):
        table().budget(0.5)


def test_files(tmp_path: Path) -> None:
    table().write(tmp_path / "costs.json")
    again = CostTable.read(tmp_path / "costs.json")
    assert again.sha256 == table().sha256
    assert np.isnan(again.costs[1, 3])
    assert again.units == table().units
    table().write(tmp_path / "costs.csv")
    lines = (tmp_path / "costs.csv").read_text().splitlines()
    assert lines[:2] == ["unit,choice,us", "a,dense,30.0"]
    assert lines[-1] == "b,2:4+bits:4,"
    (tmp_path / "other.json").write_text('{"format": "x"}')
    with pytest.raises(UserError, match="no cost table"):
        CostTable.read(tmp_path / "other.json")


def test_a_table_needs_a_cost_of_every_unit_as_it_is() -> None:
    costs = np.full((1, 4), np.nan)
    with pytest.raises(UserError, match="as it is"):
        CostTable("us", (Unit("a", ("x",), 1),), CHOICES, costs, 0.0, {})
