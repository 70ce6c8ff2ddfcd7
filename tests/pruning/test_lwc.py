"""Learnable weight clipping of a whole block."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from pruning.block_job import BlockJob, Decision
from pruning.quantizers import lwc, rtn
from pruning.quantizers.clipping import LearnableClipping
from tests.pruning.block_jobs import all_kept, check_on_grid, half_pruned, make_job
from tests.pruning.test_clipping import autograd_quantize
from workloads.errors import UserError

QUICK = lwc.Lwc(epochs=20, learning_rate=3e-2)


@torch.no_grad()
def block_error(job: BlockJob, made: dict[str, Decision], wanted: list[torch.Tensor]) -> float:
    """Mean squared error of the block with the decisions' weights, written into it and taken back by hand."""
    own = {ref.layer.name: job.weight(ref).clone() for ref in job.refs}
    for ref in job.refs:
        ref.matrix(job.block).copy_(made[ref.layer.name].weight)
    error = sum(
        float((job.run(x).float() - y.float()).square().mean()) for x, y in zip(job.inputs, wanted, strict=True)
    )
    for ref in job.refs:
        ref.matrix(job.block).copy_(own[ref.layer.name])
    return error


@pytest.mark.parametrize("reference", ["dense", "local"])
@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize(("bits", "group_size", "symmetric"), [(2, 0, False), (3, 16, False), (3, 0, True)])
def test_learning_beats_rounding_to_nearest(reference, pruned, bits, group_size, symmetric) -> None:
    job, warnings = make_job(bits, group_size, symmetric)
    decisions = half_pruned(job) if pruned else all_kept(job)
    made = replace(QUICK, reference=reference).apply(job, decisions)
    check_on_grid(decisions, made)
    wanted = job.dense_outputs if reference == "dense" else job.outputs
    learned, plain = (block_error(job, d, wanted) for d in (made, rtn.Rtn().apply(job, decisions)))
    assert learned < 0.93 * plain
    assert not warnings


def test_each_step_is_adamw_on_the_gradient_of_the_whole_block() -> None:
    """Two steps against autograd through a block whose matrices are functions of the logits (twin of test_clipping)."""
    job, _ = make_job(bits=3)
    decisions = half_pruned(job)
    short = [sequence for batch in job.inputs for sequence in batch.split(1)][:2]
    job.inputs = [torch.cat(short)]
    job.dense_outputs = job.dense_outputs[:1]
    logits = {ref.layer.name: LearnableClipping(job.weight(ref), job.grid(ref)).parameters() for ref in job.refs}
    optimizer = torch.optim.AdamW([logit for pair in logits.values() for logit in pair], lr=0.3, weight_decay=0)

    def weights() -> dict[str, torch.Tensor]:
        return {
            f"{ref.module_path}.{ref.parameter}": autograd_quantize(
                job.weight(ref), *logits[ref.layer.name], job.grid(ref)
            )
            * decisions[ref.layer.name].keep
            for ref in job.refs
        }

    for x, y in zip(short, job.dense_outputs[0].split(1), strict=True):
        optimizer.zero_grad()
        (torch.func.functional_call(job.block, weights(), (x,)) - y).square().mean().backward()
        optimizer.step()
    expected = weights()
    seen: dict[str, torch.Tensor] = {}

    def catch(job: BlockJob, pairs: lwc.Pairs) -> float:
        for ref in job.refs:
            seen[f"{ref.module_path}.{ref.parameter}"] = job.weight(ref).clone()
        return 0.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lwc, "mean_error", catch)
        lwc.Lwc(epochs=1, learning_rate=0.3).apply(job, decisions)
    for name, weight in expected.items():
        torch.testing.assert_close(seen[name], weight.detach(), rtol=1e-4, atol=1e-4)


def test_it_is_never_worse_than_rounding_to_nearest() -> None:
    """A learning rate that throws every range away: the block is rounded to nearest, and the log says so."""
    job, warnings = make_job(bits=4)
    decisions = half_pruned(job)
    made = lwc.Lwc(epochs=1, learning_rate=30.0).apply(job, decisions)
    plain = rtn.Rtn().apply(job, decisions)
    for name, decision in made.items():
        assert torch.equal(decision.weight, plain[name].weight)
    assert len(warnings) == 1
    assert warnings[0].startswith("block 0: learned clipping")
    assert "\n" not in warnings[0]


def test_grids_of_a_mask_alone_are_those_of_the_dense_weights() -> None:
    """W_hat = Q(W) .* M: a row's large pruned weight still spans its grid; weights a method changed bring their own."""
    job, _ = make_job(bits=8)
    first = job.refs[0]
    decisions = half_pruned(job)
    name = first.layer.name
    learned = {ref.layer.name: LearnableClipping(job.weight(ref), job.grid(ref)).quantize() for ref in job.refs}
    changed = 3 * job.weight(first).masked_fill(~decisions[name].keep, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lwc, "mean_error", lambda job, pairs: 0.0)  # no falling back
        patch.setattr(lwc, "train", lambda *_: None)  # strengths stay 0.982
        made = lwc.Lwc().apply(job, decisions)
        other = lwc.Lwc().apply(job, decisions | {name: replace(decisions[name], weight=changed)})
    assert torch.equal(made[name].quantized.scale, learned[name].scale)
    assert torch.equal(other[name].quantized.scale, LearnableClipping(changed, job.grid(first)).quantize().scale)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_blocks(dtype: torch.dtype) -> None:
    job, _ = make_job(3, 16, scale_dtype=dtype, dtype=dtype)
    decisions = half_pruned(job)
    made = QUICK.apply(job, decisions)
    check_on_grid(decisions, made)
    learned, plain = (block_error(job, d, job.dense_outputs) for d in (made, rtn.Rtn().apply(job, decisions)))
    assert learned < plain


def test_experts_and_those_no_token_reaches() -> None:
    job, _ = make_job(3, mixture=True)
    decisions = half_pruned(job)
    made = QUICK.apply(job, decisions)
    check_on_grid(decisions, made)
    learned, plain = (block_error(job, d, job.dense_outputs) for d in (made, rtn.Rtn().apply(job, decisions)))
    assert learned < 0.93 * plain
    unreached = [ref for ref in job.refs if ref.expert == 2]
    assert len(unreached) == 2
    for ref in unreached:  # strengths as they began
        first = LearnableClipping(job.weight(ref), job.grid(ref)).quantize()
        assert torch.equal(made[ref.layer.name].quantized.scale, first.scale)


def test_the_same_bits_with_any_number_of_threads_and_the_block_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for workers in ("1", "3"):
        monkeypatch.setenv("PRUNESIM_THREADS", workers)
        job, _ = make_job(3)
        before = {name: tensor.clone() for name, tensor in job.block.state_dict().items()}
        owners = [module._parameters.get("weight") for module in job.block.modules()]
        results.append(QUICK.apply(job, half_pruned(job)))
        assert all(torch.equal(tensor, before[name]) for name, tensor in job.block.state_dict().items())
        assert all(m._parameters.get("weight") is own for m, own in zip(job.block.modules(), owners, strict=True))
        assert not any(parameter.requires_grad for parameter in job.block.parameters())
    for name, decision in results[0].items():
        assert torch.equal(decision.weight, results[1][name].weight)


def test_an_output_that_is_not_finite_is_an_error_and_the_block_recovers() -> None:
    job, _ = make_job(4)
    job.inputs[1][0, 0, 0] = torch.nan
    own = job.block.self_attn.q_proj.weight
    with pytest.raises(UserError, match="NaN or Inf") as refusal:
        QUICK.apply(job, all_kept(job))
    assert "\n" not in str(refusal.value)
    assert job.block.self_attn.q_proj.weight is own
    assert isinstance(own, nn.Parameter)


@pytest.mark.parametrize(
    "values", [{"epochs": 0}, {"learning_rate": 0.0}, {"learning_rate": -1.0}, {"reference": "other"}, {"epoch": 3}]
)
def test_settings_out_of_range_are_refused(values: dict) -> None:
    with pytest.raises(UserError, match="lwc"):
        lwc.Lwc.with_settings(values)
