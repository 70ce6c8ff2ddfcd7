"""Round to nearest: what it puts on the grid, and the shrink search against one loop a group."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.block_job import Decision
from pruning.quantization_grid import BITS, QuantizationGrid, fit, from_range, quantize
from pruning.quantizers import rtn
from tests.pruning.block_jobs import all_kept, check_on_grid, half_pruned, make_job


@pytest.mark.parametrize("quantizer", [rtn.Rtn(), rtn.Rtn(shrink=True)], ids=["plain", "shrink"])
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(("group_size", "symmetric"), [(0, False), (4, False), (4, True)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_decisions_are_on_their_grids(quantizer, bits, group_size, symmetric, dtype) -> None:
    job, _ = make_job(bits, group_size, symmetric, dtype)
    decisions = half_pruned(job)
    check_on_grid(decisions, quantizer.apply(job, decisions))


def test_grids_come_from_the_weights_that_pruning_left() -> None:
    """One large weight that goes must not widen its row's range; weights a method changed are what is quantized."""
    job, _ = make_job(bits=3)
    job.refs[0].matrix(job.block)[0, 0] = 100.0
    decisions = half_pruned(job)
    first = job.refs[0].layer.name
    decisions[first].keep[0, 0] = False
    assert rtn.Rtn().apply(job, decisions)[first].quantized.scale[0].item() < 1
    assert rtn.Rtn().apply(job, all_kept(job))[first].quantized.scale[0].item() > 10
    changed = 2 * job.weight(job.refs[0]).masked_fill(~decisions[first].keep, 0)
    doubled = rtn.Rtn().apply(job, decisions | {first: replace(decisions[first], weight=changed)})
    plain = rtn.Rtn().apply(job, decisions)
    torch.testing.assert_close(doubled[first].weight, 2 * plain[first].weight)


def test_every_expert_has_a_grid_of_its_own() -> None:
    job, _ = make_job(mixture=True)
    decisions = all_kept(job)
    made = rtn.Rtn().apply(job, decisions)
    check_on_grid(decisions, made)
    for ref in job.refs:
        weight = job.weight(ref)
        assert torch.equal(made[ref.layer.name].weight, rtn.nearest(weight, QuantizationGrid(4)).dequantize())


def loss(group: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, grid: QuantizationGrid) -> float:
    back = quantize(group[None], scale[None, None], zero[None, None], grid).dequantize()[0]
    return float((back.double() - group.double()).abs().pow(2.4).sum())


@given(st.sampled_from([2, 3, 4]), st.booleans(), st.sampled_from([0, 4]), st.integers(0, 999))
@settings(max_examples=12, deadline=None)
def test_shrinking_finds_the_best_of_80_ranges(bits: int, symmetric: bool, group_size: int, seed: int) -> None:
    grid = QuantizationGrid(bits, group_size, symmetric)
    weight = torch.randn(3, 8, generator=torch.Generator().manual_seed(seed)) ** 3
    scale, zero = rtn.fit_shrunk(weight, grid)
    single = QuantizationGrid(bits, 0, symmetric)  # one group on its own
    for row in range(3):
        for number, group in enumerate(weight[row].split(group_size or 8)):
            tried = [from_range(f * group.min(), f * group.max(), single) for f in (1 - i / 100 for i in range(80))]
            best = min(loss(group, *numbers, single) for numbers in tried)
            found = loss(group, scale[row, number], zero[row, number], single)
            assert found <= best * (1 + 1e-5) + 1e-12
            assert found <= loss(group, *tried[0], single) * (1 + 1e-5) + 1e-12


def test_shrinking_in_slabs_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, grid = torch.randn(7, 8, generator=torch.Generator().manual_seed(0)), QuantizationGrid(3, 4)
    whole = rtn.fit_shrunk(weight, grid)
    for slab in (1, 16, 24):
        monkeypatch.setattr(rtn, "SLAB", slab)
        for one, other in zip(rtn.fit_shrunk(weight, grid), whole, strict=True):
            assert torch.equal(one, other)


def test_shrinking_leaves_groups_alone_that_fit_already() -> None:
    """Weights on the grid of their extremes, and groups of nothing but zeros."""
    grid = QuantizationGrid(3, 4)
    weight = torch.tensor([[-3.0, 4, 1, 0, 0, 0, 0, 0], [7, 0, 1, 2, -7, -1, 0, -3]])
    for one, other in zip(rtn.fit_shrunk(weight, grid), fit(weight, grid), strict=True):
        assert torch.equal(one, other)


def test_the_narrowest_range_is_0_21_of_the_widest() -> None:
    """1 is clipped to 0.21, so that thousands of 0.07, 0.14 and 0.21 are exact with 2 bits."""
    weight = torch.tensor([[0.07, 0.14, 0.21] * 1000 + [1.0]])
    scale, zero = rtn.fit_shrunk(weight, QuantizationGrid(2))
    assert scale.item() == pytest.approx(0.07)
    assert zero.item() == 0


def test_decisions_of_a_quantized_matrix_keep_everything_else() -> None:
    keep = torch.tensor([[True, False]])
    made = rtn.on_grid(Decision(keep), rtn.nearest(torch.tensor([[1.0, 2.0]]), QuantizationGrid(8)))
    assert made.keep is keep
    assert made.weight.tolist() == [[pytest.approx(1.0, abs=0.01), 0.0]]
