"""DPP: soft masks and their gradients against plain programs, its draws, and its ends: Wanda, and better than it."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.methods.dpp import Dpp
from pruning.methods.wanda import Wanda
from pruning.probabilistic import (
    confidence,
    entropy_gradient,
    gumbel,
    highest,
    mean_overlap,
    soft_gradient,
    soft_sequential,
    soft_sigmoid,
    standardized_log,
)
from pruning.rules import keep_by_pattern, keep_by_row
from tests.pruning.block_jobs import make_job
from tests.pruning.recipes import recipe
from validation.conformance.mask_laws import counts_are_exact
from validation.conformance.trial import Trial
from workloads.errors import NotForThisModel, UserError
from workloads.patterns import NofM


def job_of(sparsity: float = 0.5, pattern: NofM | None = None, copies: int = 1, seed: int = 0):
    job, warnings = make_job(seed=seed)
    names = [ref.layer.name for ref in job.refs]
    by_row, by_runs = (lambda ref, s: keep_by_row(s, sparsity)), (lambda ref, s: keep_by_pattern(s, pattern))
    return replace(
        job, sparsity=dict.fromkeys(names, sparsity), patterns=dict.fromkeys(names, pattern),
        keeper=by_row if pattern is None else by_runs, inputs=job.inputs * copies, outputs=job.outputs * copies,
    ), warnings  # fmt: skip


def one_after_the_other(values: list[float], k: int, tau: float) -> list[float]:
    """The k softmaxes, each without the entries that the ones before it chose."""
    left, total = dict(enumerate(values)), [0.0] * len(values)
    for _ in range(k):
        size = sum(math.exp(v / tau) for v in left.values())
        for j, v in left.items():
            total[j] += math.exp(v / tau) / size
        del left[max(left, key=left.__getitem__)]
    return total


@given(st.lists(st.integers(-40, 40), min_size=2, max_size=9, unique=True), st.data())
@settings(max_examples=60, deadline=None)
def test_sequential_softmaxes(values, data):
    k, tau = data.draw(st.integers(1, len(values))), data.draw(st.sampled_from([0.5, 1.0, 5.0]))
    values = [value / 8 for value in values]
    found = soft_sequential(torch.tensor([values]), torch.tensor([k]), tau)[0]
    assert found.tolist() == pytest.approx(one_after_the_other(values, k, tau), rel=1e-4, abs=1e-6)
    assert float(found.sum()) == pytest.approx(k, rel=1e-5)


def test_groups_with_a_k_of_their_own():
    drawn = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    found = soft_sequential(drawn, torch.tensor([0, 2, 6]), 1.0)
    assert (found[0] == 0).all()
    assert found[1].tolist() == pytest.approx(one_after_the_other(drawn[1].tolist(), 2, 1.0), rel=1e-4)
    assert soft_sigmoid(drawn, torch.tensor([0, 2, 6]), 1.0)[[0, 2]].tolist() == [[0.0] * 6, [1.0] * 6]


@pytest.mark.parametrize("form", ["sequential", "sigmoid"])
def test_gradients_by_differences(form):
    """With the order held, and of the sigmoid the threshold."""
    drawn = torch.tensor([[0.3, -1.0, 2.0, 0.9, -0.2]], dtype=torch.float64)
    towards = torch.tensor([[1.0, -2.0, 0.5, 3.0, 0.7]], dtype=torch.float64)
    kept, tau = torch.tensor([2]), 0.7
    found = soft_gradient(drawn, kept, towards, tau, form)
    threshold = (0.9 + 0.3) / 2

    def value(given: torch.Tensor) -> float:
        if form == "sigmoid":
            soft = torch.sigmoid((given - threshold) / tau)
        else:
            soft = torch.tensor([one_after_the_other(given[0].tolist(), 2, tau)], dtype=torch.float64)
        return float((soft * towards).sum())

    for j in range(5):
        change = torch.zeros_like(drawn)
        change[0, j] = 1e-6
        expected = (value(drawn + change) - value(drawn - change)) / 2e-6
        assert float(found[0, j]) == pytest.approx(expected, rel=1e-5, abs=1e-8)


def test_soft_masks_become_hard():
    drawn = torch.tensor([[0.3, -1.0, 2.0, 0.9, -0.2]])
    for soft in (soft_sequential, soft_sigmoid):
        assert soft(drawn, torch.tensor([2]), 0.01).round().tolist() == [[0, 0, 1, 1, 0]]


def test_the_k_highest_of_equals_by_rank():
    values, places = torch.tensor([[1.0, 1.0, 1.0, 0.0]]), torch.tensor([[2, 3, 0, 1]])
    assert highest(values, torch.tensor([2]), places).tolist() == [[True, True, False, False]]
    assert highest(values, torch.tensor([2])).tolist() == [[False, True, True, False]]


def test_draws_have_their_probabilities():
    """Of one of three, Gumbel's maximum is the softmax."""
    phi = torch.tensor([0.0, 1.0, 2.0])
    drawn = phi + gumbel(torch.Size([40_000, 3]), torch.Generator().manual_seed(0))
    share = highest(drawn, torch.ones(40_000, dtype=torch.long)).float().mean(dim=0)
    expected = phi.softmax(dim=0)
    assert ((share - expected).abs() < 4 * (expected * (1 - expected) / 40_000).sqrt()).all()


def test_the_entropys_gradient():
    phi = torch.randn(4, 5, dtype=torch.float64).requires_grad_()
    share = phi.softmax(dim=1)
    entropy = -(share * share.log()).sum(dim=1).mean()
    torch.testing.assert_close(entropy_gradient(phi.detach()), torch.autograd.grad(entropy, phi)[0])


def test_confidence_and_overlap_by_hand():
    phi = torch.log(torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]))
    assert confidence(phi, torch.tensor([1, 2])) == pytest.approx((0.5 + 0.9) / 2)
    masks = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 1, 0]]).bool()
    assert mean_overlap(masks) == pytest.approx(0.5)  # each pair shares one of two
    assert mean_overlap(masks[:1]) == 1.0


def test_logits_are_standardized():
    found = standardized_log(torch.tensor([[1.0, math.e, math.e**2], [2.0, 2.0, 2.0], [0.0, 0.0, 1.0]]))
    assert found[0].tolist() == pytest.approx([-math.sqrt(1.5), 0.0, math.sqrt(1.5)], abs=1e-6)
    assert (found[1] == 0).all()
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("pattern", [None, NofM(2, 4), NofM(1, 4)])
def test_without_steps_it_is_wanda(sparsity, pattern):
    job, _ = job_of(sparsity, pattern)
    found, wanted = Dpp(epochs=0).decide(job), Wanda().decide(job)
    for name, decision in wanted.items():
        assert torch.equal(found[name].keep, decision.keep)


@pytest.mark.parametrize("relaxation", ["sequential", "sigmoid"])
@pytest.mark.parametrize("pattern", [None, NofM(2, 4)])
def test_steps_lower_the_error_of_what_they_see(relaxation, pattern):
    """The held-out sequences are the others over again."""
    job, _ = job_of(0.5, pattern, copies=8)
    made = Dpp(relaxation=relaxation, epochs=3).decide(job)
    assert job.facts["masks"] == "learned"
    assert job.facts["error_ratio"] < 0.95
    wanted = Wanda().decide(job)
    for name, decision in made.items():
        by_row, wandas = decision.keep.sum(dim=1), wanted[name].keep.sum(dim=1)
        assert torch.equal(by_row, wandas)
        assert decision.weight is None
        if pattern is not None:
            assert (decision.keep.reshape(-1, 4).sum(dim=1) == 2).all()


def test_the_same_again_and_other_draws():
    job, _ = job_of(copies=4)
    one, two = (Dpp(epochs=1).decide(job) for _ in range(2))
    other = Dpp(epochs=1, noise=1).decide(job)
    assert all(torch.equal(one[name].keep, two[name].keep) for name in one)
    assert not all(torch.equal(one[name].keep, other[name].keep) for name in one)


def test_what_does_not_help_is_not_taken():
    job, warnings = job_of(copies=2)
    made, wanted = Dpp(epochs=1, lr=50.0).decide(job), Wanda().decide(job)
    assert all(torch.equal(made[name].keep, wanted[name].keep) for name in wanted)
    assert job.facts["masks"] == "Wanda's"
    assert "so Wanda's stay" in warnings[-1]


def test_tiles_stay_or_go_whole():
    job, _ = job_of(copies=4)
    for name, decision in Dpp(tile_rows=4, tile_cols=8, epochs=1).decide(job).items():
        keep = decision.keep.reshape(decision.keep.shape[0] // 4, 4, -1, 8)
        assert torch.equal(keep.all(dim=3).all(dim=1), keep.any(dim=3).any(dim=1)), name
        assert float(keep.float().mean()) == 0.5


def test_bands_that_share_their_runs():
    job, _ = job_of(pattern=NofM(2, 4), copies=4)
    for decision in Dpp(tile_rows=4, epochs=1).decide(job).values():
        keep = decision.keep.reshape(-1, 4, decision.keep.shape[1])
        assert (keep == keep[:, :1]).all()
        assert (decision.keep.reshape(-1, 4).sum(dim=1) == 2).all()
    with pytest.raises(NotForThisModel, match="counts single inputs"):
        Dpp(tile_cols=2).decide(job)


def test_a_models_counts():
    asked = recipe("dpp", 0.3, epochs=1)
    counts_are_exact(None, Trial("dpp", asked, "row", "mixtral"))


@pytest.mark.parametrize(
    ("asked", "message"), [({"lr": 0.0}, "dpp: lr"), ({"epochs": -1}, "dpp: epochs"), ({"tile_rows": 0}, "tile_rows")]
)
def test_settings_that_cannot_be(asked, message):
    with pytest.raises(UserError, match=message):
        recipe("dpp", 0.5, **asked)


def test_tiles_that_do_not_fit_are_one_line(tmp_path):
    from checkpoints.checkpoint import Checkpoint
    from pruning.run.driver import prune
    from validation.conformance.tiny_models import quiet, save

    with pytest.raises(NotForThisModel, match="is no whole number of tiles of 7 x 1"):
        prune(Checkpoint(save("llama", tmp_path / "m")), recipe("dpp", 0.5, tile_rows=7), tmp_path / "o", quiet, quiet)
