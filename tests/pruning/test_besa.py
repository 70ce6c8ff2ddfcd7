"""BESA: its gradient against autograd through dense soft masks, its identities, and what it must not miss silently."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from checkpoints.checkpoint import Checkpoint
from checkpoints.discovery import LinearRef
from pruning.methods.besa import besa, budgets
from pruning.methods.besa.besa import Besa
from pruning.methods.besa.budgets import BudgetMatrix, BudgetTraining, held_out
from pruning.methods.besa.coefficients import candidates, coefficients
from pruning.methods.besa.constraint import shift_to_target
from pruning.methods.besa.matrices import final_counts
from pruning.methods.besa.ranks import keep_above, ranks_of
from pruning.methods.besa.released import CandidateMatrix, default_d_coef, surrogate
from pruning.rules import pruned_count
from pruning.run.driver import prune
from studies.masks import bundle_text
from tests.pruning.contract import masks_of
from tests.pruning.recipes import recipe
from validation.conformance.tiny_models import quiet, save, token_ids
from workloads.errors import UserError
from workloads.layers import Layer


def learned(
    weight: torch.Tensor, scores: torch.Tensor, logits: torch.Tensor, bounded: bool, target: float
) -> CandidateMatrix:
    points = candidates(logits.shape[1])
    cols = weight.shape[1]
    thresholds = torch.tensor([pruned_count(cols, float(p)) for p in points.double()])
    ref = LinearRef(Layer("l", "q", 0, *weight.shape), "l", "weight", None, False)
    return CandidateMatrix(
        ref,
        weight,
        ranks_of(scores, cols),
        cols,
        1,
        False,
        target,
        nn.Parameter(logits.clone()),
        points,
        thresholds,
        bounded,
    )


def dense_loss(
    layers: list[CandidateMatrix], logits: list[torch.Tensor], gradients: list[torch.Tensor], settings: Besa
):
    """The loss's linear part and penalty, through dense soft masks and nothing else: P_rj = 1 - sum of the coefficients
    whose counts exceed the rank, M = hard mask - stop(P) + P, W_hat = W * M (methods 4.3), and (s_block - s) / s
    squared."""
    total, pruned, size = torch.zeros((), dtype=torch.float64), 0.0, 0
    for layer, theta, gradient in zip(layers, logits, gradients, strict=True):
        pi = torch.softmax(torch.sigmoid(theta) if layer.bounded else theta, dim=1)
        removed = layer.ranks[:, :, None].long() < layer.thresholds
        soft = 1 - (removed * pi[:, None, :]).sum(dim=2)
        hard = keep_above(layer.ranks, layer.counts((pi @ layer.points.double()).detach().expand(len(layer.weight))))
        mask = hard.double() - soft.detach() + soft
        total = total + (gradient.double() * layer.weight.double() * mask).sum()
        pruned = pruned + layer.weight.numel() * (pi @ layer.points.double()).mean()
        size += layer.weight.numel()
    target = layers[0].target
    return total + settings.beta * ((pruned / size - target) / target) ** 2


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("by_row", [False, True])
def test_the_prefix_sum_gradient_is_autograds(bounded: bool, by_row: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    settings, layers, gradients = Besa(optimizer="prodigy"), [], []
    for rows, cols in ((6, 16), (3, 29)):
        weight, scores = (torch.randn(rows, cols, generator=draw) for _ in range(2))
        logits = torch.randn(rows if by_row else 1, 101, generator=draw)
        layers.append(learned(weight, scores, logits, bounded, 0.4))
        gradients.append(torch.randn(rows, cols, generator=draw))
    for layer, gradient in zip(layers, gradients, strict=True):
        layer.write(torch.empty_like(layer.weight))
        layer.receive(gradient)
    surrogate(settings, layers).backward()
    logits = [layer.logits.detach().double().requires_grad_() for layer in layers]
    dense_loss(layers, logits, gradients, settings).backward()
    for layer, theta in zip(layers, logits, strict=True):
        assert layer.logits.grad is not None
        torch.testing.assert_close(layer.logits.grad.double(), theta.grad, rtol=2e-4, atol=2e-6)


def test_soft_keep_probability_rises_with_rank() -> None:
    """P(k) = 1 - sum_{d: k < c_d} pi_d is monotone, and the top rank is removed only by p = 1 (methods 4.3)."""
    pi = coefficients(torch.randn(1, 101, generator=torch.Generator().manual_seed(1)), False)[0].double()
    thresholds = torch.tensor([pruned_count(40, d / 100) for d in range(101)])
    keep = torch.stack([1 - pi[thresholds > k].sum() for k in range(40)])
    assert bool((keep.diff() >= 0).all())
    assert float(keep[-1]) == pytest.approx(1 - float(pi[-1]))


def test_one_hot_coefficients_are_wanda() -> None:
    """All weight on the candidate that is the target: the mask is Wanda's own, row by row."""
    draw = torch.Generator().manual_seed(2)
    weight, norm = torch.randn(8, 40, generator=draw), torch.rand(40, generator=draw)
    scores = weight.abs() * norm
    logits = torch.full((8, 101), -1e4)
    logits[:, 45] = 0
    layer = learned(weight, scores, logits, False, 0.45)
    order = scores.argsort(dim=1, stable=True)
    wanda = torch.ones(8, 40, dtype=torch.bool).scatter_(1, order[:, :18], False)
    assert torch.equal(keep_above(layer.ranks, final_counts([layer])[0]), wanda)
    written = torch.empty_like(weight)
    layer.write(written)
    assert torch.equal(written, weight * wanda)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llama", tmp_path_factory.mktemp("llama"))


@pytest.mark.parametrize("granularity", ["row", "layer"])
@pytest.mark.parametrize("sparsity", [0.5, 0.7])
def test_budgets_that_never_move_give_wanda(granularity: str, sparsity: float, llama: Path, tmp_path: Path) -> None:
    """A d_coef of almost nothing: Wanda's masks, block by block, up to the remainder that Wanda's rounding leaves."""
    frozen = recipe("besa", sparsity, granularity=granularity, optimizer="prodigy", d_coef=1e-30)
    found = masks_of(prune(Checkpoint(llama), frozen, tmp_path / "besa", quiet, quiet))
    floored = recipe("wanda", sparsity, count="released")
    wanda = masks_of(prune(Checkpoint(llama), floored, tmp_path / "wanda", quiet, quiet))
    name = next(iter(wanda))  # of the first block, where both saw the same inputs
    surplus = wanda[name].astype(int) - found[name]
    assert surplus.min() >= 0  # nothing is kept that Wanda prunes
    assert surplus.sum(axis=1).max() <= 1
    if sparsity == 0.5:
        assert all((wanda[name] == found[name]).all() for name in wanda)


def test_it_learns(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Budgets move, rows differ, and the block's output error, on the sequences it learned from, is below Wanda's."""
    from pruning.applied import apply_masks
    from pruning.forward.blockwise import BlockwiseModel
    from pruning.training import output_error

    monkeypatch.setattr(budgets, "ROUND", 64)
    ids = token_ids(64, 12)
    errors, rows = {}, {}
    for method, settings in (
        ("wanda", {}),
        ("besa", {"rounds": 1, "normalisation": "channel"}),
        ("released", {"optimizer": "prodigy"}),
    ):
        asked = recipe("wanda" if method == "wanda" else "besa", 0.5, ids=ids, **settings)
        bundle = prune(Checkpoint(llama), asked, tmp_path / method, quiet, quiet)
        model = BlockwiseModel(Checkpoint(llama))
        hidden = model.embed(ids)
        block = model.checkpoint.load_block(0)
        with torch.no_grad():
            dense = model.run(0, hidden)
            apply_masks(model.checkpoint, block, model.refs(0), bundle)
            errors[method] = float(output_error(model.run(0, hidden), dense, "channel"))
        rows[method] = {int(count) for _, mask in bundle for count in mask.row_counts() if mask.cols == 32}
    assert rows["wanda"] == {16}
    assert len(rows["besa"]) > 3
    assert errors["besa"] < errors["released"] < errors["wanda"]


def test_a_target_bounded_coefficients_cannot_reach_is_refused() -> None:
    for sparsity in (0.3, 0.7):
        with pytest.raises(UserError, match=r"within \[0\.376, 0\.624\].*coefficients=softmax"):
            recipe("besa", sparsity, optimizer="prodigy", coefficients="sigmoid")
    recipe("besa", 0.55, optimizer="prodigy", coefficients="sigmoid")


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.7])
def test_auto_switches_to_what_can_reach_the_target(sparsity: float, llama: Path, tmp_path: Path, monkeypatch) -> None:
    seen, make = [], besa.make_candidates

    def spy(*args):
        made = make(*args)
        seen.append(made.bounded)
        return made

    monkeypatch.setattr(besa, "make_candidates", spy)
    bundle = prune(Checkpoint(llama), recipe("besa", sparsity, optimizer="prodigy"), tmp_path, quiet, quiet)
    assert set(seen) == {sparsity == 0.5}
    assert bundle.sparsity == pytest.approx(sparsity, abs=1e-3)


def test_row_budgets_of_n_of_m(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row keeps the same number in all its runs of 4, on average 2 a matrix, and rows differ."""
    monkeypatch.setattr(budgets, "ROUND", 64)
    chosen = recipe("besa", pattern="2:4", nm_budget="row", rounds=1, ids=token_ids(40, 12))
    bundle = prune(Checkpoint(llama), chosen, tmp_path, quiet, quiet)
    different = set()
    for name, mask in masks_of(bundle).items():
        kept = mask.reshape(len(mask), -1, 4).sum(axis=2)
        assert (kept == kept[:, :1]).all(), name
        assert kept[:, 0].mean() == 2
        different |= set(kept[:, 0].tolist())
    assert len(different) > 1
    assert {entry.pattern for entry in bundle.layers} == {"unstructured"}


def test_fixed_n_of_m_leaves_the_rankings_choice(llama: Path, tmp_path: Path) -> None:
    besa_masks = masks_of(prune(Checkpoint(llama), recipe("besa", pattern="2:4"), tmp_path / "b", quiet, quiet))
    wanda_masks = masks_of(prune(Checkpoint(llama), recipe("wanda", pattern="2:4"), tmp_path / "w", quiet, quiet))
    assert all((besa_masks[name] == mask).all() for name, mask in wanda_masks.items())


@pytest.mark.parametrize("weights", [1e5, 2e8, 3.2e8, 5.4e8, 8.6e8])
def test_default_travel_is_the_published_one_where_there_is_one(weights: float) -> None:
    published = {2e8: 5, 3.2e8: 5, 5.4e8: 10, 8.6e8: 50}  # 7B, 13B, 30B, 70B blocks, row-wise
    assert default_d_coef("row", True, int(weights)) == published.get(weights, 1)


def test_a_budget_an_allocator_moves_out_of_reach_is_refused(llama: Path, tmp_path: Path) -> None:
    """The model's target is within reach of bounded coefficients, those of its blocks are not."""
    chosen = recipe(
        "besa", 0.58, optimizer="prodigy", coefficients="sigmoid", allocation="depth", set={"allocation.d": 0.1}
    )
    with pytest.raises(UserError, match=r"within \[0\.376, 0\.624\]"):
        prune(Checkpoint(llama), chosen, tmp_path, quiet, quiet)


def test_rows_of_a_single_run_keep_their_pattern(tmp_path: Path) -> None:
    """32 inputs and 16:32: a run is a row, and still every run keeps 16."""
    save("llama", tmp_path / "model", intermediate_size=64)
    bundle = prune(Checkpoint(tmp_path / "model"), recipe("besa", pattern="16:32"), tmp_path / "out", quiet, quiet)
    assert all((mask.reshape(-1, 32).sum(axis=1) == 16).all() for mask in masks_of(bundle).values())
    assert {entry.pattern for entry in bundle.layers} == {"16:32"}


def budget_matrix(rows: int = 3, cols: int = 40, target: float = 0.5) -> BudgetMatrix:
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(rows, cols, generator=draw)
    ref = LinearRef(Layer("l", "q", 0, rows, cols), "l", "weight", None, False)
    return BudgetMatrix(ref, weight, ranks_of(weight.abs(), cols), cols, 1, False, target, torch.full((rows,), target))


def test_the_cost_of_a_weight_is_that_of_the_ranks_around_the_threshold() -> None:
    matrix = budget_matrix()
    gradient = torch.randn(3, 40, generator=torch.Generator().manual_seed(1))
    matrix.write(torch.empty_like(matrix.weight))
    matrix.receive(gradient)
    for row in range(3):
        order = matrix.weight[row].abs().argsort(stable=True)[18:22]  # 5 % of 40 to each side of 20
        expected = -(gradient[row, order] * matrix.weight[row, order]).mean()
        assert float(matrix.cost[row]) == pytest.approx(float(expected), rel=1e-5)


def test_budgets_keep_their_total_whatever_is_added() -> None:
    matrices = [budget_matrix(3, 40, 0.7), budget_matrix(5, 16, 0.7)]
    for matrix in matrices:
        matrix.budgets += torch.linspace(-0.6, 0.4, len(matrix.budgets))
    shift_to_target(matrices)
    assert all(0 <= float(b) <= 1 for matrix in matrices for b in matrix.budgets)
    pruned = sum(float(matrix.wanted().mean()) * matrix.n_weights for matrix in matrices)
    assert pruned == pytest.approx(0.7 * 200, rel=1e-5)


@pytest.mark.parametrize(("sequences", "apart"), [(1, 0), (2, 1), (16, 2), (64, 8), (128, 8), (1000, 8)])
def test_what_is_held_out(sequences: int, apart: int) -> None:
    found = held_out(sequences)
    assert len(found) == apart
    assert found <= set(range(sequences))


def test_even_budgets_are_kept_where_nothing_better_is_learned(llama: Path, tmp_path: Path, monkeypatch) -> None:
    """Training that only does harm: Wanda's masks come out, and that is said."""
    monkeypatch.setattr(BudgetTraining, "_move", lambda training, size: [b.budgets.copy_(
        torch.linspace(0, 1, len(b.budgets))) for b in training._free])  # fmt: skip
    said: list[str] = []
    bundle = prune(Checkpoint(llama), recipe("besa", 0.5), tmp_path / "besa", quiet, said.append)
    wanda = masks_of(prune(Checkpoint(llama), recipe("wanda", 0.5), tmp_path / "wanda", quiet, quiet))
    assert all((mask == wanda[name]).all() for name, mask in masks_of(bundle).items())
    assert any("no better than even ones" in text for text in said)
    assert [record.facts["budgets"] for record in bundle.records] == ["even"] * len(bundle.records)
    assert f"budgets: even in {len(bundle.records)} of {len(bundle.records)} blocks" in bundle_text(bundle)
    assert re.search(r"block 0: budgets even, steps \d+, held_out_error 0\.", bundle_text(bundle))


def test_updated_survivors_stand_under_the_same_masks(llama: Path, tmp_path: Path) -> None:
    ids = token_ids(40, 12)
    made = {
        update: prune(Checkpoint(llama), recipe("besa", 0.5, ids=ids, update=update), tmp_path / update, quiet, quiet)
        for update in ("none", "obs")
    }
    name = made["none"].layers[0].name
    assert (masks_of(made["none"])[name] == masks_of(made["obs"])[name]).all()
    assert made["obs"].values(name)
    assert not made["none"].values(name)


def test_budgets_that_hardly_move_are_said(llama: Path, tmp_path: Path) -> None:
    said: list[str] = []
    frozen = recipe("besa", 0.5, optimizer="prodigy", d_coef=1e-30)
    prune(Checkpoint(llama), frozen, tmp_path, quiet, said.append)
    assert any("budgets hardly moved" in text for text in said)


def test_settings_of_the_other_optimizer_are_refused() -> None:
    with pytest.raises(UserError, match="d_coef belongs to optimizer=prodigy"):
        recipe("besa", 0.5, d_coef=2.0)
    with pytest.raises(UserError, match="step belongs to optimizer=adam"):
        recipe("besa", 0.5, optimizer="prodigy", step=0.1)
