"""AWQ's two searches against plain loops over the tokens themselves."""

from dataclasses import replace

import pytest
import torch

from pruning.block_job import BlockJob
from pruning.evidence.moments import Moments
from pruning.quantization_grid import BITS, QuantizationGrid, from_range, quantize
from pruning.quantizers import awq, rtn
from tests.pruning.block_jobs import all_kept, check_on_grid, half_pruned, make_job
from workloads.errors import UserError

ATTENTION = ("q_proj", "k_proj", "v_proj")


def tokens_into(job: BlockJob) -> dict[str, torch.Tensor]:
    """(tokens, in) inputs of every linear, by layer name."""
    seen: dict[str, list[torch.Tensor]] = {}
    handles = []
    for ref in job.refs:

        def hook(_, args: tuple[torch.Tensor], name: str = ref.layer.name) -> None:
            seen.setdefault(name, []).append(args[0].reshape(-1, args[0].shape[-1]))

        handles.append(job.block.get_submodule(ref.module_path).register_forward_pre_hook(hook))
    with torch.no_grad():
        for x in job.inputs:
            job.run(x)
    for handle in handles:
        handle.remove()
    return {name: torch.cat(parts) for name, parts in seen.items()}


def by_role(found: dict) -> dict:
    return {name.rpartition(".")[2]: value for name, value in found.items()}


def moments_of(tokens: torch.Tensor) -> Moments:
    return Moments(
        len(tokens), tokens.square().sum(0).double(), tokens.abs().sum(0, dtype=torch.float64), tokens.T @ tokens
    )  # fmt: skip


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(("group_size", "symmetric"), [(0, False), (4, False), (4, True)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_decisions_are_on_their_grids(bits, group_size, symmetric, dtype) -> None:
    job, warnings = make_job(bits, group_size, symmetric, dtype)
    decisions = half_pruned(job)
    check_on_grid(decisions, awq.Awq().apply(job, decisions))
    assert not warnings


def test_the_error_is_that_of_the_outputs() -> None:
    draw = torch.Generator().manual_seed(0)
    difference, tokens = torch.randn(5, 8, generator=draw), torch.randn(30, 8, generator=draw)
    expected = (tokens @ difference.T).square().sum(dim=0)
    torch.testing.assert_close(awq.row_errors(difference, tokens.T @ tokens), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize(("bits", "group_size", "symmetric"), [(2, 0, False), (3, 4, False), (4, 0, True)])
@pytest.mark.parametrize("pruned", [False, True])
def test_the_scale_is_the_best_of_20_for_all_that_share_an_input(bits, group_size, symmetric, pruned) -> None:
    job, _ = make_job(bits, group_size, symmetric)
    decisions = half_pruned(job) if pruned else all_kept(job)
    tokens = by_role(tokens_into(job))
    weights = by_role({ref.layer.name: job.weight(ref) * decisions[ref.layer.name].keep for ref in job.refs})
    dense = by_role({ref.layer.name: job.weight(ref) for ref in job.refs})
    made = by_role(awq.Awq(clip_search=False).apply(job, decisions))
    grid = QuantizationGrid(bits, group_size, symmetric)

    def error(names: tuple[str, ...], scale: torch.Tensor) -> float:
        total = 0.0
        for name in names:
            back = rtn.nearest(weights[name] * scale, grid).dequantize() / scale
            total += float((tokens[name] @ (back - dense[name]).T).double().square().sum())
        return total

    scaled = 0
    for names in (ATTENTION, ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",)):
        mean = tokens[names[0]].abs().mean(dim=0, dtype=torch.float64).float()
        tried = [torch.ones_like(mean)]
        for step in range(1, 20):
            scale = (mean ** (step / 20)).clamp_min(1e-4)
            tried.append(scale / (scale.max() * scale.min()).sqrt())
        found = [made[name].quantized.input_scale for name in names]
        assert all(other is found[0] for other in found)
        taken = torch.ones_like(mean) if found[0] is None else found[0]
        scaled += found[0] is not None
        assert min(float((taken - other).abs().max()) for other in tried) < 1e-4
        assert error(names, taken) <= min(error(names, scale) for scale in tried) * (1 + 1e-3)  # a code may flip
    assert scaled  # inputs of uneven size: at least one group gains


def test_scaling_saves_the_weights_of_a_loud_input() -> None:
    """One input is 100 times as large as the others, its weights are small: rounded to nearest they vanish."""
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randn(200, 8, generator=draw)
    tokens[:, 3] *= 100
    weight = torch.randn(6, 8, generator=draw)
    weight[:, 3] *= 0.05
    moments, grid = moments_of(tokens), QuantizationGrid(3)
    linear = awq.Linear(weight, weight, grid)
    scale = awq.search_scale([linear], moments)
    assert scale is not None
    assert scale.argmax() == 3
    assert (scale.max() * scale.min()).item() == pytest.approx(1, rel=1e-5)
    back = awq.with_scale(linear, moments, scale, clip=False).dequantize()
    plain = rtn.nearest(weight, grid).dequantize()
    error, before = (awq.row_errors(w - weight, moments.hessian).sum() for w in (back, plain))
    assert error < 0.1 * before


def test_even_inputs_need_no_scale() -> None:
    tokens = torch.ones(20, 8) * torch.randn(20, 1, generator=torch.Generator().manual_seed(0)).sign()
    weight = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    assert awq.search_scale([awq.Linear(weight, weight, QuantizationGrid(4))], moments_of(tokens)) is None


def drawn(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(tokens, a dense weight with outliers, what pruning its smaller half left)"""
    draw = torch.Generator().manual_seed(seed)
    tokens, weight = torch.randn(50, 8, generator=draw), torch.randn(12, 8, generator=draw) ** 3
    return tokens, weight, weight.masked_fill(weight.abs() < weight.abs().median(), 0)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("group_size", [0, 4])
@pytest.mark.parametrize("pruned", [False, True])
def test_the_clip_of_every_group_is_the_best_of_10(group_size: int, symmetric: bool, pruned: bool) -> None:
    tokens, dense, left = drawn()
    weight = left if pruned else dense
    grid, single = QuantizationGrid(3, group_size, symmetric), QuantizationGrid(3, 0, symmetric)
    scale, zero = awq.fit_clipped(awq.Linear(weight, dense, grid), tokens.T @ tokens)
    width, narrower = group_size or 8, 0
    for row in range(12):
        for number, group in enumerate(weight[row].split(width)):
            columns = slice(number * width, (number + 1) * width)
            x, wanted = tokens[:, columns], dense[row, columns]

            def error(numbers: tuple[torch.Tensor, torch.Tensor], group=group, x=x, wanted=wanted) -> float:
                step, middle = (n.reshape(1, 1) for n in numbers)
                back = quantize(group[None], step, middle, single).dequantize()[0]
                return float((x @ (back - wanted)).double().square().sum())

            limits = [(1 - i / 20) * group.abs().max() for i in range(10)]
            tried = [from_range(group.min().clamp_min(-t), group.max().clamp_max(t), single) for t in limits]
            best = min(error(numbers) for numbers in tried)
            assert error((scale[row, number], zero[row, number])) <= best * (1 + 1e-3) + 1e-9
            narrower += bool(scale[row, number] < tried[0][0])
    assert narrower > 1


def test_rows_that_all_their_clips_together_make_worse_keep_their_ranges() -> None:
    """Inputs that rise and fall together: errors of a row's groups add up instead of cancelling."""
    tokens, dense, left = drawn()
    tokens += 3 * tokens[:, :1]
    linear, hessian = awq.Linear(left, dense, QuantizationGrid(3, 2)), tokens.T @ tokens
    taken, plain = awq.clipped(linear, hessian), rtn.nearest(left, linear.grid)
    alone = quantize(left, *awq.fit_clipped(linear, hessian), linear.grid)
    errors = [(tokens @ (q.dequantize() - dense).T).square().sum(dim=0) for q in (taken, plain, alone)]
    torch.testing.assert_close(errors[0], torch.minimum(errors[1], errors[2]), rtol=1e-3, atol=1e-4)
    assert bool((errors[2] > 1.01 * errors[1]).any())
    assert bool((errors[2] < 0.99 * errors[1]).any())


def test_clipping_works_on_the_scaled_inputs() -> None:
    """W' = Q(W t) / t on x equals Q(W t) on x / t: the same codes, found from both ends."""
    tokens, dense, left = drawn()
    scale, grid = torch.linspace(0.5, 2, 8), QuantizationGrid(3)
    found = awq.with_scale(awq.Linear(left, dense, grid), moments_of(tokens), scale, clip=True)
    other = awq.with_scale(awq.Linear(left * scale, dense * scale, grid), moments_of(tokens / scale), None, clip=True)
    assert torch.equal(found.codes, other.codes)
    assert torch.equal(found.scale, other.scale)


@pytest.mark.parametrize("scaled", [False, True])
def test_queries_and_keys_are_never_clipped(scaled: bool) -> None:
    job, _ = make_job(2)
    decisions = all_kept(job)
    made, without = (
        by_role(awq.Awq(scale_search=scaled, clip_search=clip).apply(job, decisions)) for clip in (True, False)
    )
    for name in ("q_proj", "k_proj"):
        assert torch.equal(made[name].weight, without[name].weight)
    assert any(not torch.equal(made[name].weight, without[name].weight) for name in made)


def test_without_both_searches_it_rounds_to_nearest() -> None:
    job, _ = make_job(3, 4)
    decisions = half_pruned(job)
    made = awq.Awq(scale_search=False, clip_search=False).apply(job, decisions)
    for name, plain in rtn.Rtn().apply(job, decisions).items():
        assert torch.equal(made[name].weight, plain.weight)
        assert made[name].quantized.input_scale is None


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("group_size", [0, 8])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_outputs_are_never_worse_than_rounded_to_nearest(bits: int, group_size: int, pruned: bool) -> None:
    """Both searches hold what they measure: the error of linears that share an input never grows."""
    job, _ = make_job(bits, group_size)
    decisions = half_pruned(job) if pruned else all_kept(job)
    made, plain = awq.Awq().apply(job, decisions), rtn.Rtn().apply(job, decisions)
    totals = [0.0, 0.0]
    for refs, moments in awq.sharing_inputs(job):
        errors = [0.0, 0.0]
        for ref in refs:
            for number, quantized in enumerate((made, plain)):
                difference = quantized[ref.layer.name].weight - job.weight(ref)
                errors[number] += float(awq.row_errors(difference, moments.hessian).sum())
        assert errors[0] <= errors[1] * (1 + 1e-5)
        totals = [total + error for total, error in zip(totals, errors, strict=True)]
    assert totals[0] < 0.97 * totals[1]


def test_experts_have_scales_of_their_own_and_unreached_ones_are_rounded_to_nearest() -> None:
    job, warnings = make_job(3, mixture=True)
    decisions = half_pruned(job)
    made = awq.Awq().apply(job, decisions)
    check_on_grid(decisions, made)
    plain = rtn.Rtn().apply(job, decisions)
    unreached = [ref.layer.name for ref in job.refs if ref.expert == 2]
    assert len(unreached) == 2
    for name in unreached:
        assert torch.equal(made[name].weight, plain[name].weight)
        assert any(warning.startswith(f"{name}: no calibration token") for warning in warnings)
    assert len(warnings) == 2
    reached = [made[ref.layer.name] for ref in job.refs if ref.expert in (0, 1)]
    assert any(decision.quantized.input_scale is not None for decision in reached)


def test_dead_inputs_do_no_harm() -> None:
    """Inputs that are always 0 get the least scale; nothing divides by 0, and pruned weights stay 0."""
    draw = torch.Generator().manual_seed(0)
    tokens, weight = torch.randn(40, 8, generator=draw), torch.randn(6, 8, generator=draw)
    tokens[:, :3] = 0
    weight[:, 5] = 0
    moments = moments_of(tokens)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for bits in BITS:
            linear = awq.Linear(weight, weight, QuantizationGrid(bits, 0, False, dtype))
            scale = awq.search_scale([linear], moments)
            back = awq.with_scale(linear, moments, scale, clip=True).dequantize()
            assert bool(torch.isfinite(back).all())
            assert not bool(back[:, 5].any())


def test_inputs_that_are_not_finite_are_an_error() -> None:
    job, _ = make_job(4)
    first = job.refs[0].layer.name
    job.moments.sums[first].hessian[0, 0] = torch.inf
    with pytest.raises(UserError, match="calibration inputs are NaN, Inf or too large") as refusal:
        awq.Awq().apply(job, all_kept(job))
    assert str(refusal.value).startswith(first)
    assert "\n" not in str(refusal.value)


def test_weights_a_method_changed_are_what_is_quantized() -> None:
    job, _ = make_job(4)
    decisions = half_pruned(job)
    first = job.refs[0]
    changed = 2 * job.weight(first).masked_fill(~decisions[first.layer.name].keep, 0)
    decisions[first.layer.name] = replace(decisions[first.layer.name], weight=changed)
    made = awq.Awq().apply(job, decisions)
    assert (made[first.layer.name].weight - changed).abs().max() < 0.3 * changed.abs().max()
