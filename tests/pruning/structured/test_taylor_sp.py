"""Taylor-sp's units and counts from whole-model backward passes, one a sequence, made by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from checkpoints.checkpoint import Checkpoint
from pruning.run.driver import prune
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import contents, load_whole, quiet, save, token_ids
from workloads.errors import NotForThisModel, UserError
from workloads.removal import KV_GROUP, NEURON

IDS = token_ids(5, 12)
MATRICES = {
    NEURON: ("gate_proj", "up_proj", "down_proj"),
    KV_GROUP: ("q_proj", "k_proj", "v_proj", "o_proj"),
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llama", tmp_path_factory.mktemp("llama"), num_hidden_layers=3)


@pytest.fixture(scope="module")
def slopes(llama: Path):
    """(weights, mean gradients, mean squared gradients of a sequence) by name, float64."""
    model = load_whole(llama).requires_grad_()
    first = {name: torch.zeros(p.shape, dtype=torch.float64) for name, p in model.named_parameters()}
    second = {name: torch.zeros_like(total) for name, total in first.items()}
    for sequence in IDS:
        model.zero_grad()
        model(input_ids=sequence[None], labels=sequence[None], use_cache=False).loss.backward()
        for name, parameter in model.named_parameters():
            first[name] += parameter.grad.double() / len(IDS)
            second[name] += parameter.grad.double() ** 2 / len(IDS)
    return {name: p.detach().double() for name, p in model.named_parameters()}, first, second


def salience(slopes, name: str, order: str) -> np.ndarray:
    w, g, f = (part[f"{name}.weight"].numpy() for part in slopes)
    return {"first": w * g, "second": w * w * f, "mix": w * g - w * w * f / 2}[order]


def unit_scores(slopes, module: str, kind: str, count: int, form: str, order: str, aggregation: str) -> np.ndarray:
    """Unit by unit, matrix by matrix."""
    parts = np.zeros((len(MATRICES[kind]), count))
    for row, name in enumerate(MATRICES[kind]):
        s = salience(slopes, f"{module}.{name}", order)
        lines = s.T if name in ("o_proj", "down_proj") else s
        each = len(lines) // count
        for unit in range(count):
            own = lines[unit * each : (unit + 1) * each]
            parts[row, unit] = np.abs(own).sum() if form == "element" else np.abs(own.sum(axis=1)).sum()
    return {"sum": parts.sum(0), "prod": parts.prod(0), "max": parts.max(0), "last": parts[-1]}[aggregation]


def pruned(llama: Path, tmp_path: Path, sparsity: float, **settings):
    return prune(Checkpoint(llama), recipe("taylor-sp", sparsity, ids=IDS, **settings), tmp_path / "out", quiet, quiet)


def gone(unit) -> set[int]:
    return set(np.flatnonzero(~unit.kept).tolist())


def lowest(score: np.ndarray, count: int) -> set[int]:
    return set(np.argsort(score, kind="stable")[:count].tolist())


@pytest.mark.parametrize("order", ["first", "second", "mix"])
@pytest.mark.parametrize("form", ["element", "vector"])
@pytest.mark.parametrize("aggregation", ["sum", "prod", "max", "last"])
def test_units_are_those_that_the_derivatives_say(llama, slopes, tmp_path, form, order, aggregation):
    bundle = pruned(llama, tmp_path, 0.5, form=form, order=order, aggregation=aggregation)
    assert {unit.kind for unit in bundle.removal.units} == {KV_GROUP, NEURON}
    for unit in bundle.removal.units:
        score = unit_scores(slopes, unit.module, unit.kind, len(unit.kept), form, order, aggregation)
        assert gone(unit) == lowest(score, len(score) // 2), unit.key


def test_one_ranking_of_loss_a_weight(llama, slopes, tmp_path):
    """The best unit of every group stays, the others go by score / weights, as far as the budget."""
    bundle, every = pruned(llama, tmp_path, 0.4, ranking="global"), []
    hidden = 32
    for unit in bundle.removal.units:
        score = unit_scores(slopes, unit.module, unit.kind, len(unit.kept), "element", "first", "sum")
        names = MATRICES[unit.kind]
        cost = sum(slopes[0][f"{unit.module}.{name}.weight"].numel() for name in names) // len(score)
        assert cost % hidden == 0
        best = int(score.argmax())
        every += [(value / cost, unit.key, n, cost, n == best) for n, value in enumerate(score)]
    budget = 0.4 * sum(cost for *_, cost, _ in every)
    free = sorted(item for item in every if not item[4])
    taken = np.cumsum([0, *(cost for *_, cost, _ in free)])
    expected = {(key, n) for _, key, n, _, _ in free[: int(np.abs(taken - budget).argmin())]}
    assert {(unit.key, n) for unit in bundle.removal.units for n in gone(unit)} == expected
    assert expected


@pytest.mark.parametrize("ranking", ["block", "global"])
def test_blocks_left_alone_and_the_share_of_the_whole(llama, tmp_path, ranking):
    """Two of three blocks lose nothing; the other one three times the share, the model as much as was asked."""
    bundle = pruned(llama, tmp_path, 0.2, units="ffn", skip_first=1, skip_last=1, ranking=ranking)
    lost = {unit.block: (~unit.kept).sum() for unit in bundle.removal.units}
    count = len(bundle.removal.units[0].kept)
    assert lost == {0: 0, 1: round(0.2 * 3 * count), 2: 0}


def test_blocks_that_cannot_lose_as_much(llama, tmp_path):
    with pytest.raises(NotForThisModel, match=r"leave 1, which cannot lose 40.0% of all"):
        pruned(llama, tmp_path, 0.4, skip_first=2)
    with pytest.raises(NotForThisModel, match=r"`skip_last` 5 leave 0,"):
        pruned(llama, tmp_path, 0.1, skip_last=5)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_products_have_no_global_ranking():
    with pytest.raises(UserError, match="`aggregation=prod` has no `ranking=global`"):
        recipe("taylor-sp", 0.5, aggregation="prod", ranking="global")


def test_nothing_of_the_gradients_stays(llama, tmp_path):
    pruned(llama, tmp_path, 0.3, order="mix")
    assert not [name for name in contents(tmp_path / "out") if "gradients" in name or "scores" in name]


def test_experts_that_no_token_reaches_are_told_and_go_first(tmp_path):
    """Of Mixtral's experts, with a single sequence of two tokens."""
    source = save("mixtral", tmp_path / "model")
    told: list[str] = []
    chosen = recipe("taylor-sp", 0.3, ids=token_ids(1, 2), units="ffn")
    bundle = prune(Checkpoint(source), chosen, tmp_path / "out", quiet, told.append)
    assert any("no calibration token reached it; its units go first" in text for text in told)
    assert bundle.removal.units
