"""Plans of a table: each within its budget, the even one the least of its kind; of several the nearest is taken."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pruning.data.calibration import Calibration
from studies.speed.choosing import nearest
from studies.speed.held_out import HELD, held_out, shares
from studies.speed.planners import Planned, even, knapsack, owl
from studies.speed.result import Judged, Met, Round, read_met
from workloads.choices import UNTOUCHED, Choice, choices_of
from workloads.cost_table import CostTable, Unit
from workloads.errors import UserError
from workloads.patterns import NofM


def table_of(costs: np.ndarray, choices: list[Choice]) -> CostTable:
    units = tuple(Unit(f"u{n}", (f"u{n}",), 10) for n in range(len(costs)))
    return CostTable("us", units, tuple(choices), costs, 1.0, {"target": "chip"})


LADDER = choices_of(["unstructured"], levels=8)  # steps of 1/8
ZEROS = np.array([choice.zeros for choice in LADDER])
SIZES = np.array([[4.0], [2.0]])


def straight(choice: Choice) -> np.ndarray:
    return SIZES[:, 0] * (1 - choice.zeros)


def test_the_even_plan_is_the_least_sparsity_that_fits() -> None:
    table = table_of(SIZES * (1 - ZEROS), LADDER)
    errors = [ZEROS**2, 3 * ZEROS**2]
    for budget in (0.9, 2.0, 3.3, 5.99):
        found = even([table], errors, lambda one: [straight(one)])([budget])
        exact = 1 - budget / 6
        assert len(set(found.choices)) == 1
        assert exact <= found.choices[0].zeros <= exact + 1 / 8 / 2**7 + 1e-6
        assert found.costs[0] <= budget
    level = even([table], errors, lambda one: [straight(one)])([3.0])
    assert level.choices == (Choice(0.5), Choice(0.5))
    assert level.error == pytest.approx(4 * 0.25)
    assert level.bound <= knapsack([table], errors)([3.0]).error <= level.error


def test_a_stair_is_found_behind_the_line_between_its_levels() -> None:
    """Nothing is saved below 0.55: the table's levels at 0.5 and 0.625 alone do not say where."""

    def stair(choice: Choice) -> np.ndarray:
        return SIZES[:, 0] * (0.4 if choice.zeros >= 0.55 else 1.0)

    table = table_of(np.array([stair(choice) for choice in LADDER]).T, LADDER)
    found = even([table], [ZEROS, ZEROS], lambda one: [stair(one)])([3.0])
    assert 0.55 <= found.choices[0].zeros <= 0.552


def test_of_patterns_bits_and_sparsities_the_least_error_is_taken() -> None:
    choices = [UNTOUCHED, Choice(0.5), Choice(0.75), Choice(0, NofM(2, 4)), Choice(bits=4)]
    costs = np.array([[4.0, 2.5, 1.0, 2.0, 2.2], [4.0, 2.5, 1.0, np.nan, 2.2]])
    errors = [np.array([0, 2.0, 5.0, 4.0, 1.0]), np.array([0, 2.0, 5.0, 0.0, 1.0])]
    table = table_of(costs, choices)

    def of(choice: Choice) -> np.ndarray:
        return costs[:, choices.index(choice)] if choice in choices else np.full(2, 4.0 - 4 * choice.zeros)

    assert even([table], errors, lambda one: [of(one)])([4.5]).choices == (choices[4], choices[4])
    dear = [np.array([0, 2.0, 5.0, 1.0, 9.0]), np.array([0, 2.0, 5.0, 0.0, 9.0])]
    found = even([table], dear, lambda one: [of(one)])([6.0])
    assert found.choices == (choices[3], UNTOUCHED)  # the second cannot have it
    assert found.costs == (6.0,)
    with pytest.raises(UserError, match=r"nothing that is the same everywhere costs 1\.5 us or less"):
        even([table], errors, lambda one: [of(one)])([1.5])


BAND = np.array([0.1, -0.2])  # 0 in the mean over weights
WEIGHTS = (10, 5)


def allotted(sparsity: float) -> np.ndarray:
    """What an allocation gives two units whose weights are WEIGHTS."""
    return sparsity + BAND if sparsity else np.zeros(2)


def weighed(costs: np.ndarray, choices: list[Choice]) -> CostTable:
    units = tuple(Unit(f"u{n}", (f"u{n}",), size) for n, size in enumerate(WEIGHTS))
    return CostTable("us", units, tuple(choices), costs, 1.0, {"target": "chip"})


def test_owl_is_its_own_sparsities_at_the_least_total_that_fits() -> None:
    """Costs 4 (1 - s - .1) + 2 (1 - s + .2) = 6 - 6 s where zeros save evenly."""
    table, errors = weighed(SIZES * (1 - ZEROS), LADDER), [ZEROS**2, 3 * ZEROS**2]
    for budget in (2.0, 3.3, 4.3):
        found = owl([table], errors, lambda one: [straight(one)], allotted)([budget])
        total = np.average([one.zeros for one in found.choices], weights=WEIGHTS)
        assert 1 - budget / 6 <= total + 0.0005
        assert total <= 1 - budget / 6 + 1 / 8 / 2**7 + 0.0005
        assert found.choices[0].zeros - found.choices[1].zeros == pytest.approx(0.3, abs=0.001)
        assert found.costs[0] <= budget
        assert found.costs[0] == pytest.approx(sum(straight(c)[n] for n, c in enumerate(found.choices)))
        assert found.bound <= knapsack([table], errors)([budget]).error
    assert owl([table], errors, lambda one: [straight(one)], allotted)([6.0]).choices == (UNTOUCHED, UNTOUCHED)


def test_owl_asks_the_machine_between_levels() -> None:
    """Nothing is saved below 0.55 of a unit; the first has it at a total of 0.45, and that is enough."""

    def stair(choice: Choice) -> np.ndarray:
        return SIZES[:, 0] * (0.4 if choice.zeros >= 0.55 else 1.0)

    table = weighed(np.array([stair(choice) for choice in LADDER]).T, LADDER)
    asked: list[Choice] = []

    def of(choice: Choice) -> list[np.ndarray]:
        asked.append(choice)
        return [stair(choice)]

    found = owl([table], [ZEROS, ZEROS], of, allotted)([3.61])
    assert 0.55 <= found.choices[0].zeros <= 0.552
    assert found.costs == (pytest.approx(3.6),)
    assert any(choice not in LADDER for choice in asked)
    both = owl([table], [ZEROS, ZEROS], of, allotted)([2.41])
    assert 0.55 <= both.choices[1].zeros <= 0.552


def test_owl_goes_no_further_than_the_highest_level() -> None:
    table = weighed(SIZES * (1 - ZEROS), LADDER)
    found = owl([table], [ZEROS, ZEROS], lambda one: [straight(one)], allotted)([0.9])
    assert found.choices[0].zeros == LADDER[-1].zeros == 0.875
    assert found.costs[0] <= 0.9  # the second unit takes what the first cannot
    with pytest.raises(UserError, match=r"owl's sparsities of at most 0\.875 cost more than 0\.7 us"):
        owl([table], [ZEROS, ZEROS], lambda one: [straight(one)], allotted)([0.7])


def test_owl_leaves_what_cannot_have_it_and_needs_sparsities() -> None:
    costs = SIZES * (1 - ZEROS)
    costs[1, 1:] = np.nan
    table = weighed(costs, LADDER)

    def of(choice: Choice) -> list[np.ndarray]:
        return [np.array([straight(choice)[0], np.nan if choice.zeros else 2.0])]

    found = owl([table], [ZEROS, ZEROS], of, allotted)([4.0])
    assert found.choices[1] == UNTOUCHED
    assert found.costs[0] <= 4.0
    assert found.choices[0].zeros == pytest.approx(0.5, abs=0.002)
    choices = [UNTOUCHED, Choice(0, NofM(2, 4)), Choice(bits=4), Choice(0.5, bits=4)]
    other = weighed(np.array([[4.0, 2.0, 2.0, 1.0], [2.0, 1.0, 1.0, 0.5]]), choices)
    with pytest.raises(UserError, match="without a pattern or bits, and of these there are none on chip"):
        owl([other], [np.arange(4.0)] * 2, of, allotted)


def test_two_budgets_bind_owl() -> None:
    first, second = SIZES * (1 - ZEROS), np.array([np.full(8, 4.0), 2 * (1 - ZEROS)])
    tables = [weighed(first, LADDER), weighed(second, LADDER)]

    def of(choice: Choice) -> list[np.ndarray]:
        return [straight(choice), np.array([4.0, 2 * (1 - choice.zeros)])]

    found = owl(tables, [ZEROS, ZEROS], of, allotted)([4.5, 5.2])  # 0.25 in all for the first, 0.4 of the second unit
    assert 0.4 <= found.choices[1].zeros <= 0.402
    assert found.choices[0].zeros == pytest.approx(found.choices[1].zeros + 0.3, abs=0.001)


def test_factors_move_the_plan_and_not_its_error() -> None:
    table = table_of(np.array([[2.0, 1.0], [2.0, 1.0]]), [UNTOUCHED, Choice(0.5)])
    errors = [np.array([0.0, 1.0]), np.array([0.0, 2.0])]
    assert knapsack([table], errors)([3.0]).choices == (Choice(0.5), UNTOUCHED)
    moved = knapsack([table], errors, np.array([3.0, 1.0]))([3.0])
    assert moved.choices == (UNTOUCHED, Choice(0.5))
    assert moved.error == 2.0
    assert moved.bound <= 1.0
    assert moved.gap >= 0.5


def masks(name: str) -> SimpleNamespace:
    return SimpleNamespace(folder=Path(name), sparsity=0.5)


def test_the_plan_with_the_nearest_predictions_is_taken() -> None:
    asked: list[str] = []

    def meet(plan):
        if plan == "none":
            raise UserError("not met")
        return masks(plan), Round(1.5, 1.5, 1.0, 0.0, {}), 1

    def apart(bundle) -> float:
        asked.append(str(bundle.folder))
        return {"a": 0.3, "b": 0.2}[str(bundle.folder)]

    planners = {"first": lambda: "a", "second": lambda: "none", "third": lambda: "b", "fourth": lambda: "b"}
    found, name, judged = nearest(planners, meet, apart)
    assert name == "third"
    assert str(found[0].folder) == "b"
    assert [one.kl for one in judged if not one.reason] == [0.3, 0.2, 0.2]
    assert judged[1].reason == "not met"
    assert asked == ["a", "b"]  # masks that two plans lead to are judged once
    with pytest.raises(UserError, match="not met"):
        nearest({"second": lambda: "none"}, meet, apart)


def test_what_was_tried_is_kept_and_read(tmp_path: Path) -> None:
    judged = (Judged("even", 0.25, 1.51, 0.5, 2.0, 1), Judged("knapsack", reason="not met"))
    facts = {"target": "chip", "phase": {"name": "decode", "batch": 1, "context": 8}}
    met = Met(1.5, 1.5, 1.51, 0.0, 3.0, 2.0, 1.0, 2.0, 1, facts, plan="even", held_out=8, judged=judged)
    met.write(tmp_path, {}, "x")
    again = read_met(tmp_path, "x")
    assert again is not None
    assert again.judged[0] == judged[0]
    assert again.judged[1].reason == "not met"
    assert "8 held-out sequences, by plan: even 0.25 at 1.510; knapsack: not met; taken: even" in "\n".join(again.lines)


STREAM = torch.arange(4000)


def drawn(number: int | None, most: int = 1000) -> Calibration:
    if number is not None and number > most:
        raise UserError("too few")
    return Calibration(torch.stack([STREAM[40 * n : 40 * n + 40] for n in range(number or 6)]), "a text")


def test_held_out_sequences_come_behind_those_that_were_asked_for() -> None:
    calibration, apart = held_out(drawn, 5)
    assert torch.equal(calibration.ids, drawn(5).ids)
    assert torch.equal(apart, drawn(5 + HELD).ids[5:])


def test_a_sequence_that_overlaps_is_not_held_out() -> None:
    def overlapping(number: int | None) -> Calibration:
        ids = drawn(number).ids.clone()
        ids[7] = torch.cat([STREAM[8:40], STREAM[3000:3008]])  # 32 tokens of the first
        return Calibration(ids, "a text")

    calibration, apart = held_out(overlapping, 5)
    assert torch.equal(apart, drawn(5 + HELD + 1).ids[[5, 6, *range(8, 6 + HELD)]])
    assert shares(overlapping(8).ids[7], calibration.ids)
    assert not shares(drawn(8).ids[7], calibration.ids)


def test_where_there_are_no_more_some_are_kept_apart() -> None:
    calibration, apart = held_out(lambda n: drawn(n, most=10), 10)
    assert torch.equal(torch.cat([calibration.ids, apart]), drawn(10).ids)
    assert len(apart) == 1
    assert len(held_out(drawn, None)[1]) == 1
    with pytest.raises(UserError, match="gives one"):
        held_out(lambda n: drawn(n, most=1), 1)


def test_no_plan_changes_nothing() -> None:
    assert not Planned((UNTOUCHED, UNTOUCHED), 0.0, (1.0,), 0.0).changes


def test_two_budgets_bind_the_knapsack_and_the_even_plan() -> None:
    """The second table knows no gain in the first unit, so the other has to give what it asks for."""
    first, second = SIZES * (1 - ZEROS), np.array([np.full(8, 4.0), 2 * (1 - ZEROS)])
    tables, errors = [table_of(first, LADDER), table_of(second, LADDER)], [ZEROS**2, 30 * ZEROS**2]
    alone = knapsack(tables[:1], errors)([4.5])
    assert alone.costs[0] <= 4.5
    both = knapsack(tables, errors)([4.5, 5.01])
    assert both.choices[1].zeros == 0.5  # 4 + 2 (1 - s) <= 5.01
    assert both.costs[1] == 5.0
    assert both.error > alone.error
    assert both.bound <= both.error

    def of(choice: Choice) -> list[np.ndarray]:
        return [straight(choice), np.array([4.0, 2 * (1 - choice.zeros)])]

    found = even(tables, errors, of)([4.5, 5.2])  # 0.25 is enough for the first, 0.4 for the second
    assert 0.4 <= found.choices[0].zeros <= 0.401


def test_budgets_that_buy_the_cheapest_choices_alone_are_met_by_every_plan() -> None:
    """Every unit's cheapest choice is the highest level by both tables, and the first budget is just these."""
    first, second = SIZES * (1 - ZEROS), SIZES[::-1] * (1 - ZEROS) ** 2
    tables, errors = [weighed(first, LADDER), weighed(second, LADDER)], [ZEROS**2, 30 * ZEROS**2]

    def of(choice: Choice) -> list[np.ndarray]:
        return [straight(choice), SIZES[::-1, 0] * (1 - choice.zeros) ** 2]

    budgets, flat = [float(first[:, -1].sum()), 5.0], lambda sparsity: np.full(2, sparsity)
    for planner in (
        knapsack(tables, errors), knapsack(tables, errors, np.array([0.3, 0.9])), even(tables, errors, of),
        owl(tables, errors, of, flat),
    ):  # fmt: skip
        found = planner(budgets)
        assert found.choices == (LADDER[-1], LADDER[-1])
        assert found.bound == pytest.approx(found.error)


def test_without_choices_of_several_budgets_the_bound_is_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """HiGHS may end with none: of one budget alone less is lost, never more."""
    from studies.speed import planners

    tables = [weighed(SIZES * (1 - ZEROS), LADDER), weighed(SIZES * (1 - ZEROS) ** 2, LADDER)]
    errors, budgets = [ZEROS**2, 30 * ZEROS**2], [3.0, 2.0]

    def of(choice: Choice) -> list[np.ndarray]:
        return [straight(choice), SIZES[:, 0] * (1 - choice.zeros) ** 2]

    exact = knapsack(tables, errors)(budgets)

    def ended(*arguments: object) -> None:
        raise UserError("no choices were found in 500 steps")

    monkeypatch.setattr(planners, "solve_several", ended)
    alone = max(knapsack([table], errors)([budget]).bound for table, budget in zip(tables, budgets, strict=True))
    for plan in (even(tables, errors, of), owl(tables, errors, of, lambda sparsity: np.full(2, sparsity))):
        found = plan(budgets)
        assert found.bound == pytest.approx(alone)
        assert 0 < found.bound <= exact.error <= found.error
    assert planners.bound_of(errors, tables, [0.01, 0.01]) == 0.0
