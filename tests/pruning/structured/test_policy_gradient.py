"""The estimator against the gradient that all masks together give, the projection against every way in which bounds can
bind, the search against every set of the right size."""

import math
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoints.checkpoint import Checkpoint
from pruning.methods.structured.policy_gradient import PolicyGradient
from pruning.run.driver import prune
from pruning.run.estimate import estimate
from pruning.structured import policy
from pruning.structured.problem import UnitProblem
from pruning.structured.scores import ScoredBlock
from tests.pruning.recipes import recipe
from tests.pruning.structured.test_choice import group
from validation.conformance.tiny_models import contents, quiet, save, token_ids
from workloads.errors import UserError

THETA = torch.tensor([0.2, 0.5, 0.7, 0.95], dtype=torch.float64)
MASKS = [torch.tensor(mask) for mask in product((False, True), repeat=4)]


def loss_of(mask: torch.Tensor) -> float:
    """Of no simple form: units matter together."""
    a, b, c, d = (float(bit) for bit in mask)
    return 3.0 - a - 0.5 * b + a * b * c - 0.3 * c * (1 - d) + math.sin(5 * a + 3 * b + 2 * c + d)


def probability(mask: torch.Tensor, theta: torch.Tensor) -> float:
    return float(torch.where(mask, theta, 1 - theta).prod())


def exact_gradient() -> torch.Tensor:
    theta = THETA.clone().requires_grad_()
    expected = sum(torch.where(mask, theta, 1 - theta).prod() * loss_of(mask) for mask in MASKS)
    return torch.autograd.grad(expected, theta)[0]


def expected_estimate(baseline: float | None, precond: Any) -> torch.Tensor:
    """Over every pair of masks, each as often as it is drawn."""
    total = torch.zeros(4, dtype=torch.float64)
    for pair in product(MASKS, repeat=2):
        losses = torch.tensor([loss_of(mask) for mask in pair], dtype=torch.float64)
        chance = math.prod(probability(mask, THETA) for mask in pair)
        total += chance * policy.gradient(losses, torch.stack(pair), THETA, baseline, precond)
    return total


@pytest.mark.parametrize("precond", ["none", "sqrt"])
def test_the_estimate_is_the_gradient_on_average(precond):
    """With the mean of the other losses; with a constant, the released factor K / (K - 1) stays."""
    scale = (THETA * (1 - THETA)).sqrt() if precond == "sqrt" else 1.0
    assert torch.allclose(expected_estimate(None, precond), exact_gradient() * scale, atol=1e-5)
    assert torch.allclose(expected_estimate(1.7, precond), 2 * exact_gradient() * scale, atol=1e-5)


def test_many_draws_come_near_the_gradient():
    draws = torch.Generator().manual_seed(1)
    found = []
    for _ in range(4000):
        masks = policy.draw(THETA, 3, draws)
        losses = torch.tensor([loss_of(mask) for mask in masks], dtype=torch.float64)
        found.append(policy.gradient(losses, masks, THETA, None, "none"))
    each = torch.stack(found)
    error = each.std(dim=0) / math.sqrt(len(each))
    assert ((each.mean(dim=0) - exact_gradient()).abs() < 4 * error).all()


def test_one_loss_and_a_moving_average():
    """By hand: (L - average) (m - theta) / sqrt(theta (1 - theta)), undivided."""
    mask = torch.tensor([[True, False, True, True]])
    found = policy.gradient(torch.tensor([2.5], dtype=torch.float64), mask, THETA, 2.0, "sqrt")
    by_hand = [0.5 * (float(m) - t) / math.sqrt(t * (1 - t)) for m, t in zip(mask[0], THETA.tolist(), strict=True)]
    assert found.tolist() == pytest.approx(by_hand, rel=1e-5)
    assert policy.moved(policy.moved(float("nan"), 4.0, 5), 3.0, 5) == pytest.approx(0.8 * 4.0 + 0.2 * 3.0)


def test_draws_have_their_probabilities():
    masks = policy.draw(THETA, 20_000, torch.Generator().manual_seed(0)).double()
    assert ((masks.mean(dim=0) - THETA).abs() < 4 * (THETA * (1 - THETA) / 20_000).sqrt()).all()


def nearest_by_cases(theta: np.ndarray, keep: float, least: float, most: float) -> np.ndarray:
    """The best of all ways in which entries can stand at a bound, the others shifted alike."""
    best, apart = None, np.inf
    for case in product((least, most, None), repeat=len(theta)):
        free = np.array([bound is None for bound in case])
        made = np.array([0.0 if bound is None else bound for bound in case])
        if free.any():
            made[free] = theta[free] - (theta[free].sum() + made[~free].sum() - keep * len(theta)) / free.sum()
        if abs(made.mean() - keep) < 1e-9 and made.min() >= least - 1e-12 and made.max() <= most + 1e-12:
            distance = ((made - theta) ** 2).sum()
            if distance < apart:
                best, apart = made, distance
    assert best is not None
    return best


@given(st.lists(st.floats(-1, 2), min_size=1, max_size=5), st.floats(0.02, 0.98))
@settings(max_examples=60, deadline=None)
def test_the_projection_is_the_nearest(values, keep):
    theta = torch.tensor(values, dtype=torch.float64)
    found = policy.projected(theta, keep).numpy()
    np.testing.assert_allclose(found, nearest_by_cases(theta.numpy(), keep, 0.01, 0.99), atol=1e-9)
    assert found.mean() == pytest.approx(keep, abs=1e-12)


@pytest.mark.parametrize("keep", [0.001, 0.999])
def test_budgets_beyond_the_bounds(keep):
    found = policy.projected(torch.tensor([0.1, 0.4, 0.9], dtype=torch.float64), keep)
    assert found.tolist() == pytest.approx([keep] * 3)


class Additive:
    """In the place of a model: every unit that goes costs what it is worth; batches differ as a whole."""

    def __init__(self, worth: dict[str, list[float]]):
        self.worth = worth

    def losses(self, sets, ids):
        offset = float(ids.double().mean())
        return [
            offset
            + sum(w for key, own in self.worth.items() for w, stays in zip(own, kept[key], strict=True) if not stays)
            for kept in sets
        ]


def problem(tmp_path: Path, worth: dict[str, list[float]], sparsity: float, **changes: Any) -> UnitProblem:
    groups = tuple(group(name, len(own)) for name, own in worth.items())
    made = {g.key: torch.arange(g.count, dtype=torch.float64) for g in groups}  # scores that know nothing
    start = {g.key: np.arange(g.count) >= round(g.count * sparsity) for g in groups}
    by_key = {g.key: worth[g.module] for g in groups}
    asked = UnitProblem(
        [ScoredBlock(0, groups, made, {}, 1)], start, sparsity, 1, 0, token_ids(6, 4), Additive(by_key),  # type: ignore[arg-type]
        tmp_path / "search-00000.safetensors", quiet, quiet,
    )  # fmt: skip
    return replace(asked, **changes)


def worths(seed: int) -> dict[str, list[float]]:
    draw = np.random.default_rng(seed)
    return {"a": draw.permutation(5).tolist(), "b": (draw.permutation(4) + 0.5).tolist()}


@pytest.mark.parametrize("init", ["wanda-sp", "constant", "random"])
@pytest.mark.parametrize("baseline", ["leave-one-out", "moving"])
def test_the_search_finds_the_best_set(tmp_path, init, baseline):
    """Against all sets of 4 of 9 units."""
    worth = worths(0)
    asked = problem(tmp_path, worth, 5 / 9)
    method = PolicyGradient(steps=400, masks=4, lr=0.02, init=init, baseline=baseline, units="ffn")
    found = method.search(asked)
    units = [(name, n) for name, own in worth.items() for n in range(len(own))]
    sets = [kept for kept in combinations(units, 4) if {name for name, _ in kept} == {"a", "b"}]
    best = max(sets, key=lambda kept: sum(worth[name][n] for name, n in kept))
    assert {(name, n) for name in worth for n in np.flatnonzero(found[f"{name}.neuron"])} == set(best)


def test_the_search_block_by_block(tmp_path):
    worth = worths(3)
    found = PolicyGradient(steps=400, lr=0.02, scope="block", units="ffn").search(problem(tmp_path, worth, 0.5))
    for name, own in worth.items():
        kept = found[f"{name}.neuron"]
        assert set(np.flatnonzero(kept)) == set(np.argsort(own)[-int(kept.sum()) :])
    assert [int(found[f"{name}.neuron"].sum()) for name in worth] == [2, 2]  # of 2.5 and 2 the sum is 4.5, to even


def test_a_block_keeps_a_unit(tmp_path):
    found = PolicyGradient(steps=300, lr=0.02, units="ffn").search(
        problem(tmp_path, {"a": [9.0, 8.0, 7.0, 6.0], "b": [1.0, 0.5, 0.2, 0.1]}, 0.5)
    )
    assert [int(kept.sum()) for kept in found.values()] == [3, 1]


def test_a_worse_choice_is_not_taken(tmp_path):
    """Wanda-sp is right here, and one step with a huge rate is not."""
    told = []
    asked = problem(tmp_path, {"a": [0.0, 1.0, 2.0, 30.0], "b": [0.0, 1.0, 2.0, 3.0]}, 0.5, warn=told.append)
    found = PolicyGradient(steps=1, lr=50.0, units="ffn", init="random").search(asked)
    assert {key: kept.tolist() for key, kept in found.items()} == {k: v.tolist() for k, v in asked.start.items()}
    assert "so the latter stays; set more steps or another lr" in told[0]


class SometimesNothing(Additive):
    def losses(self, sets, ids):
        found = super().losses(sets, ids)
        return [float("nan"), *found[1:]] if len(found) > 2 else found


def test_losses_that_are_not_finite_are_left_out(tmp_path):
    worth = worths(0)
    plain = problem(tmp_path, worth, 5 / 9)
    holed = replace(plain, model=SometimesNothing(plain.model.worth), state=tmp_path / "search-00001.safetensors")
    method = PolicyGradient(steps=400, masks=4, lr=0.02, units="ffn")
    one, two = method.search(plain), method.search(holed)
    assert {key: kept.tolist() for key, kept in one.items()} == {key: kept.tolist() for key, kept in two.items()}
    with pytest.raises(UserError, match="at step 1 no loss is finite; use `dtype=float32`"):
        method.search(replace(plain, model=Additive({"a.neuron": [math.nan] * 5, "b.neuron": [0.0] * 4}),
                              state=tmp_path / "search-00002.safetensors"))  # fmt: skip


def test_the_same_bytes_whatever_the_threads(tmp_path, monkeypatch):
    folder = save("mixtral", tmp_path / "model")
    asked = recipe("policy-gradient", 0.5, ids=token_ids(5, 12), steps=6, masks=3, batch=2)
    for threads in ("1", "3"):
        monkeypatch.setenv("PRUNESIM_THREADS", threads)
        prune(Checkpoint(folder), asked, tmp_path / threads, quiet, quiet)
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_the_whole_model_is_in_the_estimate(tmp_path):
    checkpoint = Checkpoint(save("llama", tmp_path))
    weights = 4 * sum(parameter.numel() for parameter in checkpoint.model.parameters())
    needs = estimate(checkpoint, recipe("policy-gradient", 0.5))
    assert needs.outside_bytes + needs.block_bytes == weights
    streamed = estimate(checkpoint, recipe("wanda-sp", 0.5))
    assert streamed.outside_bytes + streamed.block_bytes < weights


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"masks": 1}, "with `set` masks=1 a step has no other loss for baseline=leave-one-out"),
        ({"steps": 0}, "policy-gradient: steps = 0"),
        ({"lr": 0.0}, "policy-gradient: lr = 0.0"),
        ({"lr": math.inf}, "policy-gradient: lr"),
        ({"precond": "diagonal"}, "policy-gradient: precond = 'diagonal'"),
        ({"windows": 3}, "policy-gradient has no parameter 'windows'"),
    ],
)
def test_settings_that_cannot_be(parameters, message):
    with pytest.raises(UserError, match=message):
        recipe("policy-gradient", 0.5, set=parameters)
