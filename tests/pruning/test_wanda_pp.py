"""Wanda++: regional gradients against differences and autograd, the score by hand, and what its rounds may do."""

from dataclasses import replace

import pytest
import torch

from pruning.methods.method import Evidence
from pruning.methods.wanda import Wanda
from pruning.methods.wanda_pp import WandaPlusPlus
from pruning.regional import block_error, held_out, regional_gradients
from pruning.rules import keep_by_pattern, keep_by_row
from tests.pruning.block_jobs import make_job
from tests.pruning.recipes import recipe
from workloads.errors import UserError
from workloads.patterns import NofM


def job_of(sparsity: float = 0.5, pattern: NofM | None = None, **asked):
    job, warnings = make_job(**asked)
    names = [ref.layer.name for ref in job.refs]
    choose = (lambda ref, s: keep_by_row(s, sparsity)) if pattern is None else (
        lambda ref, s: keep_by_pattern(s, pattern))  # fmt: skip
    return replace(
        job, sparsity=dict.fromkeys(names, sparsity), patterns=dict.fromkeys(names, pattern), keeper=choose
    ), warnings


def test_scores_by_hand():
    evidence = Evidence(1, torch.tensor([1.0, 2.0]), torch.tensor([[0.5, 0.0], [0.25, 1.0]]))
    scores = WandaPlusPlus(alpha=4.0).score(torch.tensor([[1.0, -3.0], [2.0, 0.5]]), evidence)
    assert scores.tolist() == [[1 * (2 + 1), 3 * (0 + 2)], [2 * (1 + 1), 0.5 * (4 + 2)]]


def test_the_gradient_is_that_of_the_norm():
    """Of two weights by central differences in float64; of a whole matrix by autograd, sequence after sequence."""
    job, _ = make_job()
    found = {ref.layer.role: gradient for ref, gradient in regional_gradients(job).items()}
    block = job.block.double()
    weight = block.mlp.down_proj.weight
    squares = torch.zeros_like(weight)
    for states in job.sequences(job.inputs):
        weight.requires_grad_()
        (gradient,) = torch.autograd.grad(block(states.double()).norm(), weight)
        weight.requires_grad_(False)
        squares += gradient.square()
        for r, j in ((0, 0), (5, 17)):
            norms = []
            for change in (1e-5, -1e-5):
                weight[r, j] += change
                norms.append(float(block(states.double()).norm()))
                weight[r, j] -= change
            assert float(gradient[r, j]) == pytest.approx((norms[0] - norms[1]) / 2e-5, rel=1e-5, abs=1e-8)
    expected = (squares / len(job.sequences(job.inputs))).sqrt()
    torch.testing.assert_close(found["down"].double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("pattern", [None, NofM(2, 4)])
def test_without_gradients_and_rounds_it_is_wanda(pattern):
    job, _ = job_of(pattern=pattern)
    found, wanted = WandaPlusPlus(alpha=0.0, rounds=0).decide(job), Wanda().decide(job)
    for name, decision in wanted.items():
        assert torch.equal(found[name].keep, decision.keep)
        assert found[name].weight is None


def test_gradients_change_masks():
    job, _ = job_of()
    found, wanted = WandaPlusPlus(rounds=0).decide(job), Wanda().decide(job)
    assert any(not torch.equal(found[name].keep, wanted[name].keep) for name in wanted)


@pytest.mark.parametrize("pattern", [None, NofM(2, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rounds_keep_to_the_mask(pattern, dtype):
    job, _ = job_of(pattern=pattern, dtype=dtype)
    plain = WandaPlusPlus(rounds=0).decide(job)
    made = WandaPlusPlus(rounds=3, samples=20, lr=0.01).decide(job)
    for ref in job.refs:
        decision = made[ref.layer.name]
        assert (decision.weight[~decision.keep] == 0).all()
        assert int(decision.keep.sum()) == int(plain[ref.layer.name].keep.sum())
        if pattern is not None:
            assert (decision.keep.reshape(-1, 4).sum(dim=1) == 2).all()


def test_rounds_lower_the_error_of_what_they_are_trained_on():
    job, _ = job_of()
    plain = {ref: Wanda().decide(job)[ref.layer.name].keep for ref in job.refs}
    dense = {ref: job.weight(ref) for ref in job.refs}
    made = WandaPlusPlus(rounds=4, samples=40, lr=0.003).optimized(job, dense, lambda weights: plain)
    trained, _ = held_out(4)
    before = block_error(job, trained, {ref: dense[ref] * plain[ref] for ref in job.refs})
    after = block_error(job, trained, {ref: made[ref] * plain[ref] for ref in job.refs})
    assert after < 0.6 * before


def test_rounds_are_taken_where_they_help():
    """Held out are the sequences it is trained on."""
    job, _ = job_of()
    same = [job.inputs[0][:1]] * 8, [job.outputs[0][:1]] * 8
    job = replace(job, inputs=same[0], outputs=same[1])
    made = WandaPlusPlus(rounds=3, samples=20, lr=0.003).decide(job)
    assert job.facts["weights"] == "optimized"
    assert job.facts["error_ratio"] < 0.8
    assert all(not torch.equal(made[r.layer.name].weight, job.weight(r) * made[r.layer.name].keep) for r in job.refs)


def test_rounds_that_harm_are_not_taken():
    job, warnings = job_of()
    made, plain = WandaPlusPlus(rounds=1, lr=10.0).decide(job), WandaPlusPlus(rounds=0).decide(job)
    for ref in job.refs:
        name = ref.layer.name
        assert torch.equal(made[name].keep, plain[name].keep)
        assert torch.equal(made[name].weight, job.weight(ref) * plain[name].keep)
    assert "so its weights stay; lower `lr`" in warnings[-1]


def test_the_first_step_by_hand():
    """RMSprop from rest moves every survivor with a gradient by lr / sqrt(1 - 0.99) against its sign; others stay."""
    job, _ = job_of()
    method = WandaPlusPlus(rounds=1, samples=1, lr=1e-3, alpha=0.0)
    dense = {ref: job.weight(ref) for ref in job.refs}
    masks = lambda weights: {ref: job.choose(ref, weights[ref].abs()) for ref in job.refs}  # noqa: E731
    made, keep = method.optimized(job, dense, masks), masks(dense)
    for ref in job.refs:
        moved = (made[ref] - dense[ref]).abs()
        assert (moved[~keep[ref]] == 0).all()
        size = 1e-3 * float(dense[ref].square().mean().sqrt()) * 10
        if ref.layer.role == "down":
            torch.testing.assert_close(moved[keep[ref]], torch.full_like(moved[keep[ref]], size), rtol=0.05, atol=0)


def test_what_is_held_out():
    assert held_out(64) == ([n for n in range(64) if n % 8], list(range(0, 64, 8)))
    assert held_out(5) == ([1, 2, 3, 4], [0])
    assert held_out(1) == ([0], [0])
    assert len(held_out(1000)[1]) == 8


@pytest.mark.parametrize("asked", [{"alpha": -1.0}, {"rounds": -1}, {"lr": 0.0}, {"samples": 0}])
def test_settings_that_cannot_be(asked):
    with pytest.raises(UserError, match=f"wanda-pp: {next(iter(asked))}"):
        recipe("wanda-pp", 0.5, **asked)
