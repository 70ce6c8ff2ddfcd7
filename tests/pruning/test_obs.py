"""The walk against brute-force least squares, a per-column reference, and identities (methods 2.1, 2.2, 2.7, 18.3)."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.quantization_grid import QuantizationGrid, fit, quantize
from pruning.second_order import obs as module
from pruning.second_order.obs import Factor, MaskChoice, compensate, factorise, walk_slab, walk_slab_on_device
from workloads.patterns import NofM


def problem(rows: int, cols: int, seed: int = 0, tokens: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(weight, inputs (tokens, cols) with correlated features, hessian)."""
    draw = torch.Generator().manual_seed(seed)
    mix = torch.eye(cols) + 0.5 * torch.randn(cols, cols, generator=draw) / cols**0.5
    inputs = torch.randn(tokens or 4 * cols, cols, generator=draw) @ mix
    return torch.randn(rows, cols, generator=draw), inputs, inputs.T @ inputs


def undamped(hessian: torch.Tensor) -> Factor:
    return factorise(hessian, 1e-9)


def test_the_factor_serves_every_remaining_subproblem() -> None:
    """U_ii^2 = [(H_{i:,i:})^-1]_ii, and U_ii U_{i,i:} is the first row of that inverse (methods 2.1)."""
    _, _, hessian = problem(1, 12)
    upper = undamped(hessian).upper.double()
    for i in range(12):
        inverse = torch.linalg.inv(hessian[i:, i:].double())
        torch.testing.assert_close(upper[i, i] * upper[i, i:], inverse[0], rtol=1e-3, atol=1e-5)


def least_squares(row: torch.Tensor, keep: torch.Tensor, hessian: torch.Tensor) -> torch.Tensor:
    """The weights on `keep` whose outputs are closest to those of `row`: H_kk w_k = (H row)_k, in float64."""
    best = torch.zeros_like(row, dtype=torch.float64)
    h = hessian.double()
    best[keep] = torch.linalg.solve(h[keep][:, keep], (h @ row.double())[keep])
    return best


@pytest.mark.parametrize("blocksize", [2, 3, 8, 64])
def test_pruning_the_first_columns_is_exact_least_squares(blocksize: int) -> None:
    """All columns right of the pruned ones are free to make up for them, so the walk finds the optimum."""
    weight, _, hessian = problem(5, 8)
    for pruned in range(1, 8):
        keep = torch.ones(5, 8, dtype=torch.bool)
        keep[:, :pruned] = False
        found = compensate(weight, undamped(hessian), MaskChoice(keep), blocksize).weight
        for row in range(5):
            best = least_squares(weight[row], keep[row], hessian)
            torch.testing.assert_close(found[row].double(), best, rtol=1e-3, atol=1e-4)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_any_fixed_mask_is_a_sequence_of_exact_updates(data: st.DataObject) -> None:
    """Column j, if pruned, is made up for at best by the columns right of it, all left ones frozen: checked one by
    one."""
    cols = data.draw(st.integers(2, 8))
    weight, _, hessian = problem(1, cols, data.draw(st.integers(0, 99)))
    keep = torch.tensor([data.draw(st.lists(st.booleans(), min_size=cols, max_size=cols))])
    current, h = weight[0].double().clone(), hessian.double()
    for j in range(cols):
        if not keep[0, j]:
            gone = current[j].clone()
            current[j] = 0
            if j + 1 < cols:  # minimise over d: || X_j gone - X_right d ||
                current[j + 1 :] += torch.linalg.solve(h[j + 1 :, j + 1 :], h[j + 1 :, j]) * gone
    blocksize = data.draw(st.integers(1, cols + 3))
    found = compensate(weight, undamped(hessian), MaskChoice(keep), blocksize).weight[0]
    torch.testing.assert_close(found.double(), current, rtol=2e-3, atol=2e-3)


def test_uncorrelated_inputs_change_nothing_but_what_is_pruned() -> None:
    """H proportional to I: the mask is slab-wise magnitude (methods 2.7 a)."""
    weight, _, _ = problem(6, 32)
    made = compensate(weight, factorise(3 * torch.eye(32), 0.01), MaskChoice(sparsity=0.5), 16)
    for slab in (slice(0, 16), slice(16, 32)):
        cut = weight[:, slab].abs().flatten().sort().values[48]
        assert torch.equal(made.keep[:, slab], weight[:, slab].abs() >= cut)
    assert torch.equal(made.weight, weight * made.keep)


def reference_sparsegpt(weight, factor, sparsity, pattern, blocksize):
    """Column after column over the whole matrix in float64, no lazy updates, masks by a full sort of each slab."""
    work, upper = weight.double().clone(), factor.upper.double()
    rows, cols = work.shape
    keep, done = torch.ones(rows, cols, dtype=torch.bool), 0
    for j in range(cols):
        if pattern is None and j % blocksize == 0:
            stop = min(j + blocksize, cols)
            count = int(rows * stop * sparsity + 1e-6) - done
            done += count
            scores = (work[:, j:stop] / upper.diagonal()[j:stop]) ** 2
            lowest = scores.flatten().argsort(stable=True)[:count]
            keep[lowest // (stop - j), j + lowest % (stop - j)] = False
        if pattern is not None and j % pattern.m == 0:
            scores = (work[:, j : j + pattern.m] / upper.diagonal()[j : j + pattern.m]) ** 2
            lowest = scores.argsort(dim=1, stable=True)[:, : pattern.m - pattern.n]
            keep[torch.arange(rows)[:, None], j + lowest] = False
        error = torch.where(keep[:, j], 0.0, work[:, j]) / upper[j, j]
        work[:, j + 1 :] -= error[:, None] * upper[j, j + 1 :]
        work[~keep[:, j], j] = 0
    return work, keep


@pytest.mark.parametrize("pattern", [None, NofM(2, 4), NofM(1, 4), NofM(5, 8)])
@pytest.mark.parametrize("blocksize", [8, 16, 128])
def test_equal_to_the_plain_column_loop(pattern: NofM | None, blocksize: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 7)  # rows in pieces of 7, 7, 6
    weight, _, hessian = problem(20, 48)
    factor = factorise(hessian, 0.01)
    made = compensate(weight, factor, MaskChoice(None, pattern, 0.37), blocksize)
    work, keep = reference_sparsegpt(weight, factor, 0.37, pattern, blocksize)
    assert torch.equal(made.keep, keep)
    torch.testing.assert_close(made.weight.double(), work, rtol=1e-3, atol=1e-4)
    if pattern is None:
        assert int((~made.keep).sum()) == int(20 * 48 * 0.37)


@pytest.mark.parametrize(
    "grid",
    [
        None,
        QuantizationGrid(4),
        QuantizationGrid(3, 8),
        QuantizationGrid(4, 0, True),
        QuantizationGrid(8, 16, False, torch.float16),
    ],
)
@pytest.mark.parametrize("pattern", [None, NofM(2, 4)])
def test_the_walk_on_a_device_is_the_compiled_one(
    grid: QuantizationGrid | None, pattern: NofM | None, monkeypatch
) -> None:
    weight, _, hessian = problem(9, 32)
    factor = factorise(hessian, 0.01)
    one = compensate(weight, factor, MaskChoice(None, pattern, 0.5), 16, grid)
    monkeypatch.setattr(module, "walk_slab", walk_slab_on_device)
    two = compensate(weight, factor, MaskChoice(None, pattern, 0.5), 16, grid)
    assert torch.equal(one.keep, two.keep)
    torch.testing.assert_close(one.weight, two.weight, rtol=1e-4, atol=1e-4)
    assert (one.quantized is None) == (grid is None)
    assert walk_slab is not module.walk_slab


@pytest.mark.parametrize("group_size", [0, 8, 12, 24])
@pytest.mark.parametrize("static", [False, True])
def test_gptq_equals_the_plain_column_loop(group_size: int, static: bool) -> None:
    """Every column rounded, errors carried on at once; groups fitted to the weights as they are when reached, or
    before."""
    weight, _, hessian = problem(6, 24)
    grid, factor = QuantizationGrid(4, group_size), factorise(hessian, 0.01)
    width = grid.width(24)
    work, upper = weight.double().clone(), factor.upper.double()
    scale, zero = (part.clone() for part in fit(weight, grid))
    for j in range(24):
        g = j // width
        if group_size and j % width == 0 and not static:
            group_scale, group_zero = fit(work[:, j : j + width].float(), QuantizationGrid(4))
            scale[:, g], zero[:, g] = group_scale[:, 0], group_zero[:, 0]
        code = ((work[:, j].float() / scale[:, g]).round() + zero[:, g]).clamp(0, 15)
        rounded = ((code - zero[:, g]) * scale[:, g]).double()
        error = (work[:, j] - rounded) / upper[j, j]
        work[:, j + 1 :] -= error[:, None] * upper[j, j + 1 :]
        work[:, j] = rounded
    keep = torch.ones(6, 24, dtype=torch.bool)
    found = compensate(weight, factor, MaskChoice(keep), 16, grid, static_groups=static)
    assert found.quantized is not None
    assert torch.equal(found.quantized.dequantize(), found.weight)
    same = (found.weight.double() - work).abs() < 1e-4
    assert float(same.double().mean()) > 0.98  # a rounding tie may fall the other way in float32


def test_gptq_is_sparsegpt_with_nothing_pruned() -> None:
    weight, _, hessian = problem(10, 32)
    factor, keep = factorise(hessian, 0.01), torch.ones(10, 32, dtype=torch.bool)
    gptq = compensate(weight, factor, MaskChoice(keep), 16, QuantizationGrid(3))
    joint = compensate(weight, factor, MaskChoice(sparsity=0.0), 16, QuantizationGrid(3))
    assert torch.equal(gptq.weight, joint.weight)
    assert bool(joint.keep.all())


@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize("order", [False, True])
def test_compensation_beats_rounding_and_dropping_on_correlated_inputs(bits: int, order: bool) -> None:
    """Summed over ten draws (no theorem for one)."""
    sums = {"made": 0.0, "plain": 0.0, "pruned": 0.0, "dropped": 0.0}
    for seed in range(10):
        weight, inputs, hessian = problem(16, 32, seed)
        columns = hessian.diagonal().argsort(descending=True) if order else None
        factor = factorise(hessian if columns is None else hessian[columns][:, columns], 0.01)
        grid, keep = QuantizationGrid(bits), torch.ones(16, 32, dtype=torch.bool)
        made = compensate(weight, factor, MaskChoice(keep), 16, grid, columns)
        plain = quantize(weight, *fit(weight, grid), grid).dequantize()
        mask = weight.abs() >= weight.abs().median()
        pruned = compensate(weight, factor, MaskChoice(mask), 16, None, columns).weight
        for name, weights in (("made", made.weight), ("plain", plain), ("pruned", pruned), ("dropped", weight * mask)):
            sums[name] += float(((weights - weight) @ inputs.T).square().sum())
        assert made.quantized is not None
        assert torch.equal(made.quantized.dequantize(), made.weight)
        assert bool((pruned[~mask] == 0).all())
    assert sums["made"] < sums["plain"]
    assert sums["pruned"] < sums["dropped"]


@pytest.mark.parametrize(("order", "group_size"), [(False, 0), (True, 0), (False, 16)])
@pytest.mark.parametrize("given", [False, True])
def test_a_grid_of_the_pruned_weights_has_room_for_what_survivors_make_up_for(
    order: bool, group_size: int, given: bool
) -> None:
    """8 bits then cost next to nothing beside the pruning; those of the dense weights cut survivors off. Summed over
    ten draws."""
    errors = {"unrounded": 0.0, "pruned": 0.0, "dense": 0.0}
    for seed in range(10):
        weight = problem(16, 32, seed)[0]
        draw = torch.Generator().manual_seed(seed)
        inputs = torch.randn(200, 4, generator=draw) @ torch.randn(4, 32, generator=draw)  # few survivors stand for all
        inputs = inputs + 0.1 * torch.randn(200, 32, generator=draw)
        hessian = inputs.T @ inputs
        columns = hessian.diagonal().argsort(descending=True) if order else None
        factor = factorise(hessian if columns is None else hessian[columns][:, columns], 0.01)
        grid = QuantizationGrid(8, group_size)
        choice = MaskChoice(weight.abs() >= weight.abs().quantile(0.9)) if given else MaskChoice(sparsity=0.9)
        plain = compensate(weight, factor, choice, 16, None, columns)
        found = {"unrounded": plain}
        for grids in ("pruned", "dense"):
            found[grids] = compensate(weight, factor, choice, 16, grid, columns, grids=grids)
        for name, made in found.items():
            errors[name] += float(((made.weight - weight) @ inputs.T).square().sum())
        quantized = found["pruned"].quantized
        assert quantized is not None
        assert torch.equal(quantized.scale, fit(plain.weight, grid)[0])
    assert errors["pruned"] < 1.01 * errors["unrounded"] < errors["dense"]


@pytest.mark.parametrize("group_size", [0, 8])
def test_weights_that_were_pruned_before_are_rounded_as_dense_ones(group_size: int) -> None:
    """Nothing more goes, so a mask given with them changes nothing: grids are met on the walk."""
    weight, _, hessian = problem(10, 32)
    factor, grid, keep = factorise(hessian, 0.01), QuantizationGrid(4, group_size), weight.abs() > 0.5
    plain = compensate(weight * keep, factor, MaskChoice(keep), 16, grid, grids="dense")
    found = compensate(weight * keep, factor, MaskChoice(keep), 16, grid)
    assert torch.equal(found.weight, plain.weight)
    masked = compensate(weight, factor, MaskChoice(keep), 16, grid)
    assert not torch.equal(masked.weight, compensate(weight, factor, MaskChoice(keep), 16, grid, grids="dense").weight)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_joint_pruning_and_rounding_keeps_exact_zeros(symmetric: bool, dtype: torch.dtype) -> None:
    weight, _, hessian = problem(10, 32)
    made = compensate(
        weight, factorise(hessian, 0.01), MaskChoice(sparsity=0.6), 16, QuantizationGrid(2, 8, symmetric, dtype)
    )
    assert made.quantized is not None
    dequantized = made.quantized.dequantize()
    assert torch.equal(dequantized, made.weight)
    assert bool((dequantized[~made.keep] == 0).all())
    assert int((~made.keep).sum()) == int(320 * 0.6)


def error_of(row: torch.Tensor, hessian: torch.Tensor, made: torch.Tensor) -> float:
    """||X (made - row)||^2"""
    difference = (made - row).double()
    return float(difference @ hessian.double() @ difference)


def test_the_best_mask_of_a_tiny_row_is_not_beaten() -> None:
    """Brute force over all masks bounds the walk's error from below, dropping alone from above (on average)."""
    made_error = best_error = dropped_error = 0.0
    for seed in range(20):
        weight, _, hessian = problem(1, 6, seed)
        candidates = [torch.tensor([i in chosen for i in range(6)]) for chosen in combinations(range(6), 3)]
        best = min(error_of(weight[0], hessian, least_squares(weight[0], keep, hessian)) for keep in candidates)
        made = compensate(weight, undamped(hessian), MaskChoice(sparsity=0.5), 6)
        assert best <= error_of(weight[0], hessian, made.weight[0]) * (1 + 1e-3)
        made_error += error_of(weight[0], hessian, made.weight[0])
        best_error += best
        dropped_error += error_of(weight[0], hessian, weight[0] * made.keep[0])
    assert best_error <= made_error < dropped_error


def test_dead_inputs_lose_their_weights() -> None:
    weight, inputs, _ = problem(4, 8)
    inputs[:, [2, 5]] = 0
    factor = factorise(inputs.T @ inputs, 0.01)
    assert factor.dead.tolist() == [i in (2, 5) for i in range(8)]
    assert factor.remedy == ""
    made = compensate(weight, factor, MaskChoice(sparsity=0.25))
    assert bool((made.weight[:, [2, 5]] == 0).all())
    assert torch.equal(made.keep, torch.ones(4, 8).index_fill(1, torch.tensor([2, 5]), 0).bool())


@pytest.mark.parametrize(
    ("hessian", "remedy"),
    [
        (torch.diag(torch.tensor([1.0, 1.0, -0.015])), "damping 0.1 instead of 0.01"),
        (torch.diag(torch.tensor([1.0, 1.0, -1e6])), "its diagonal alone"),
    ],
)
def test_a_factorisation_that_fails_gets_help(hessian: torch.Tensor, remedy: str) -> None:
    factor = factorise(hessian, 0.01)
    assert factor.remedy == remedy
    assert bool(torch.isfinite(factor.upper).all())
    assert bool((factor.upper.diagonal() > 0).all())


def test_fewer_tokens_than_inputs_still_factorise() -> None:
    weight, inputs, _ = problem(4, 32, tokens=5)
    factor = factorise(inputs.T @ inputs, 0.01)
    made = compensate(weight, factor, MaskChoice(sparsity=0.5))
    assert bool(torch.isfinite(made.weight).all())
    assert np.count_nonzero(made.weight.numpy()) == 64


def test_released_counts_take_one_more_of_every_slab_and_exact_ones_add_up() -> None:
    exact, released = MaskChoice(sparsity=0.3), MaskChoice(sparsity=0.3, released=True)
    assert [exact.count(7, start, start + 3) for start in (0, 3, 6)] == [6, 6, 6]  # of 6.3, 12.6, 18.9
    assert [released.count(7, start, start + 3) for start in (0, 3, 6)] == [7, 7, 7]
    weight = torch.randn(7, 9, generator=torch.Generator().manual_seed(0))
    factor = Factor(torch.eye(9), torch.zeros(9, dtype=torch.bool))
    for choice, pruned in ((exact, 18), (released, 21)):
        assert int((~compensate(weight, factor, choice, 3).keep).sum()) == pruned
