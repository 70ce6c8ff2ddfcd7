"""BESA's budgets held to what matrices cost, instead of to how many weights they lose."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from checkpoints.checkpoint import Checkpoint
from checkpoints.prunable import all_refs
from pruning.config import PruneConfig
from pruning.methods.besa.constraint import SOFT, Costs, Weights, constraint_of, least, tie, weighed
from pruning.run.driver import prune
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import quiet, save
from workloads.choices import choices_of
from workloads.cost_curve import CostCurve, Priced, priced
from workloads.cost_table import CostTable, Unit
from workloads.errors import UserError

LINE = CostCurve(np.array([0.0, 1.0]), np.array([1.0, 0.0]))
FLAT = CostCurve(np.array([0.0, 1.0]), np.array([1.0, 1.0]))


class Matrix:
    def __init__(self, name: str, n_weights: int, target: float, budgets: list[float]):
        self.ref = type("Ref", (), {"layer": type("Layer", (), {"name": name})})
        self.n_weights, self.target, self.budgets = n_weights, target, torch.tensor(budgets)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llama", tmp_path_factory.mktemp("llama"), shard_size="30KB")


def test_curves_lie_on_the_table_and_never_rise() -> None:
    choices = tuple(choices_of(["unstructured", "2:4", "bits:4"], levels=3))
    costs = np.array([[10.0, 12.0, 4.0, 1.0, 8.0, 8.0, 2.0, 1.0]])
    found = priced(CostTable("us", (Unit("u", ("a", "b"), 8),), choices, costs, 5.0, {"target": "chip"}), {"b": 4})
    assert found.curves["a"].costs.tolist() == [5.0, 5.0, 2.0]  # slower with zeros: as without
    assert found.curves["b"].costs.tolist() == [4.0, 4.0, 1.0]
    assert found.curves["a"].at(0.66) == pytest.approx(3.5, rel=0.01)
    assert found.curves["a"].at(0.95) == 2.0
    assert found.curves["a"].saved_by(0.66) == pytest.approx(3 / 0.4375)
    assert found.dense == 9
    assert found.even(1.0) <= 0.44
    assert found.cost(found.even(0.6)) == pytest.approx(0.6 * 9)
    with pytest.raises(UserError, match=r"masks reach 0\.333 to 1"):
        found.even(0.2)


def test_prices_are_what_a_weight_saves() -> None:
    members = [Matrix("cheap", 10, 0.5, [0.5]), Matrix("dear", 10, 0.5, [0.5, 0.5]), Matrix("free", 20, 0.5, [0.5])]
    dear = CostCurve(LINE.sparsities, 3 * LINE.costs)
    prices = Costs({"cheap": LINE, "dear": dear, "free": FLAT}).prices(members)
    assert prices == pytest.approx([1.0, 3.0, 0.0])  # (1 + 3 + 0) / 40 a weight on average
    assert Weights().prices(members) == [1.0, 1.0, 1.0]


def test_budgets_come_back_to_the_cost() -> None:
    members = [Matrix("a", 10, 0.5, [0.2, 0.4]), Matrix("b", 90, 0.5, [0.4])]
    dear = CostCurve(LINE.sparsities, 9 * LINE.costs)
    Costs({"a": dear, "b": LINE}).restore(members)  # 9 (1 - s_a) + (1 - s_b) = 5: 0.9 (0.3 + t) + 0.1 (0.4 + t) = 0.5
    assert members[0].budgets.tolist() == pytest.approx([0.39, 0.59])
    assert members[1].budgets.tolist() == pytest.approx([0.59])


def test_rows_of_a_lane_group_are_tied() -> None:
    budgets = torch.tensor([0.0, 1.0, 0.5, 0.7, 0.9])
    tie(budgets, 2)
    assert budgets.tolist() == pytest.approx([0.5, 0.5, 0.6, 0.6, 0.9])


IN_STEP = CostCurve(LINE.sparsities, LINE.costs, rows_in_step=2)


def test_a_lane_group_costs_what_its_fullest_row_does() -> None:
    """Of two rows d apart the fuller has 1 / (1 + exp(-d / SOFT)) of the price; equal rows have half each."""
    near, even, far = [0.5, 0.5 + SOFT], [0.3, 0.3], [0.2, 0.9]
    (shares,) = Costs({"a": IN_STEP}, 1.0).prices([Matrix("a", 6, 0.5, near + even + far)])
    assert isinstance(shares, torch.Tensor)
    fuller = 2 / (1 + math.exp(-1))
    assert shares.tolist() == pytest.approx([fuller, 2 - fuller, 1, 1, 2, 0], abs=1e-6)
    (half,) = Costs({"a": IN_STEP}, 0.5).prices([Matrix("a", 6, 0.5, near + even + far)])
    assert half.tolist() == pytest.approx([(1 + share) / 2 for share in shares.tolist()], abs=1e-6)
    assert least(torch.tensor(even)) == pytest.approx(0.3)
    assert least(torch.tensor(far)) == pytest.approx(0.2 + SOFT * math.log(2), abs=1e-6)
    assert weighed(6, torch.ones(6).double(), shares) == pytest.approx(6.0)  # the mean of prices stays


@pytest.mark.parametrize("imbalance", [0.0, 0.5, 1.0])
def test_budgets_come_back_to_what_the_fullest_rows_cost(imbalance: float) -> None:
    """Rows at 0.2 and 0.6 cost as one at 0.4 - 0.2 i, but for the smooth least: the shift makes that 0.5."""
    (matrix,) = members = [Matrix("a", 10, 0.5, [0.2, 0.6])]
    Costs({"a": IN_STEP}, imbalance).restore(members)
    smooth = imbalance * SOFT * math.log(2)
    assert matrix.budgets.tolist() == pytest.approx([0.3 + 0.2 * imbalance - smooth, 0.7 + 0.2 * imbalance - smooth])


def test_imbalance_is_refused_where_no_row_waits() -> None:
    with pytest.raises(UserError, match="on this one none does"):
        Costs({"a": LINE}, 0.5)
    with pytest.raises(UserError, match="give a `cost`"):
        constraint_of(0.5, None)
    assert isinstance(constraint_of(0.0, None), Weights)


def spread_after(imbalance: float) -> float:
    """Of the rows of a group, where every weight costs the loss the same: steps along the gradient, and back."""
    (matrix,) = members = [Matrix("a", 40, 0.5, [0.4, 0.6, 0.45, 0.55])]
    costs, lost = Costs({"a": IN_STEP}, imbalance), torch.ones(4)
    for _ in range(60):
        (price,) = costs.prices(members)
        level = weighed(40, lost, price) / weighed(40, price, price)
        matrix.budgets -= 0.004 * (lost - level * price)
        costs.restore(members)
    return max(float(rows.max() - rows.min()) for rows in matrix.budgets.split(2))


def test_rows_of_a_group_are_pulled_together() -> None:
    assert spread_after(0.0) == pytest.approx(0.2, abs=1e-4)  # without it nothing tells rows apart
    assert spread_after(1.0) < 0.01


def bundle_with(llama: Path, out: Path, costs: Priced | None, **settings):
    made = recipe("besa", 0.5, **settings)
    return prune(Checkpoint(llama), replace(made, costs=costs), out, quiet, quiet)


def test_equal_prices_give_the_masks_of_weights(llama: Path, tmp_path: Path) -> None:
    layers = [ref.layer for block in all_refs(Checkpoint(llama)) for ref in block]
    lines = {layer.name: CostCurve(LINE.sparsities, layer.n_weights * LINE.costs) for layer in layers}
    plain, costed = bundle_with(llama, tmp_path / "a", None), bundle_with(llama, tmp_path / "b", Priced(lines, {}))
    total = sum(entry.nnz for entry in plain.layers)
    assert sum(entry.nnz for entry in costed.layers) == pytest.approx(total, abs=len(layers))
    first = [layer.name for layer in layers if layer.block == 0]  # rounding differs, and what follows hangs on it
    same = [(plain[name].to_dense() == costed[name].to_dense()).mean() for name in first]
    assert np.mean(same) > 0.99


def test_sparsity_moves_to_where_it_saves(llama: Path, tmp_path: Path) -> None:
    """Zeros of down_proj buy nothing: it keeps its weights, at the cost that was allowed."""
    layers = [ref.layer for block in all_refs(Checkpoint(llama)) for ref in block]
    curves = {
        layer.name: FLAT if "down_proj" in layer.name else CostCurve(LINE.sparsities, layer.n_weights * LINE.costs)
        for layer in layers
    }
    bundle = bundle_with(llama, tmp_path / "masks", Priced(curves, {"measure": "us"}), step=0.1, rounds=2)
    for block in {entry.block for entry in bundle.layers}:
        own = [entry for entry in bundle.layers if entry.block == block]
        spent = sum(curves[entry.name].at(entry.sparsity) for entry in own)
        wanted = sum(curves[entry.name].at(0.5) for entry in own)
        assert wanted * 0.99 <= spent <= wanted + 1e-6
    assert bundle.layers[6].role == "down"
    assert bundle.layers[6].sparsity < 0.35
    assert bundle.header.parameters["costs"] == {"measure": "us"}


def test_costs_are_for_methods_that_learn_budgets() -> None:
    from studies.speed.priced import check_takes_costs

    check_takes_costs(PruneConfig("besa"))
    with pytest.raises(UserError, match="wanda learns no budgets"):
        check_takes_costs(PruneConfig("wanda"))
    with pytest.raises(UserError, match="besa learns no budgets"):
        check_takes_costs(PruneConfig("besa", set={"optimizer": "prodigy"}))
