"""The grid against a slow twin, its closed forms at the edges, and exact zeros in every type it is stored in."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.quantization_grid import BITS, QuantizationGrid, Quantized, fit, from_range, quantize

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
grids = st.builds(
    QuantizationGrid, st.sampled_from(BITS), st.sampled_from([0, 1, 2, 4]), st.booleans(), st.sampled_from(DTYPES)
)  # fmt: skip


@st.composite
def weights(draw: st.DrawFn) -> torch.Tensor:
    """(rows, 8): random, constant or zero rows, some entries 0, sizes from 1e-12 to 1e6."""
    noise = torch.randn(draw(st.integers(1, 4)), 8, generator=torch.Generator().manual_seed(draw(st.integers(0, 999))))
    for row in noise:
        kind = draw(st.sampled_from(["random", "random", "constant", "zero", "positive", "negative", "sparse"]))
        if kind == "constant":
            row[:] = row[0].item()
        elif kind == "zero":
            row[:] = 0
        elif kind in ("positive", "negative"):
            row.abs_().mul_(1 if kind == "positive" else -1)
        elif kind == "sparse":
            row[row.abs() < row.abs().median()] = 0
        row *= 10.0 ** draw(st.integers(-12, 6))
    return noise


def on_grid(weight: torch.Tensor, grid: QuantizationGrid) -> Quantized:
    return quantize(weight, *fit(weight, grid), grid)


def twin(weight: torch.Tensor, grid: QuantizationGrid) -> tuple[list, list, list]:
    """Codes, scales and zeros by one loop a weight in float32 numbers; for scales stored as float32."""
    codes, scales, zeros = [], [], []
    one, top = np.float32, 2**grid.bits - 1
    for row in weight.numpy():
        width = grid.group_size or len(row)
        for start in range(0, len(row), width):
            group = row[start : start + width]
            low, high = min(one(0), *group), max(one(0), *group)
            if low == high:
                low, high = one(-1), one(1)
            if grid.symmetric:
                low, high = -max(high, -low), max(high, -low)
            scale = max((high - low) / one(top), one(torch.finfo(torch.float32).tiny))
            zero = 2 ** (grid.bits - 1) if grid.symmetric else min(max(round(float(-low / scale)), 0), top)
            codes += [min(max(round(float(w / scale)) + zero, 0), top) for w in group]
            scales.append(float(scale))
            zeros.append(zero)
    return codes, scales, zeros


@given(weights(), grids)
@settings(max_examples=150, deadline=None)
def test_codes_scales_and_zero_points_equal_the_twins(weight: torch.Tensor, grid: QuantizationGrid) -> None:
    grid = QuantizationGrid(grid.bits, grid.group_size, grid.symmetric)
    found, (codes, scales, zeros) = on_grid(weight, grid), twin(weight, grid)
    assert found.codes.flatten().tolist() == codes
    assert found.scale.flatten().tolist() == scales
    assert found.zero.flatten().tolist() == zeros


@given(weights(), grids, st.booleans(), st.integers(0, 999))
@settings(max_examples=200, deadline=None)
def test_pruned_weights_come_back_as_exact_zeros(
    weight: torch.Tensor, grid: QuantizationGrid, scaled: bool, seed: int
) -> None:
    """Zeros before, and zeros put in afterwards; in the type the scale is stored in, too."""
    draw = torch.Generator().manual_seed(seed)
    keep = torch.rand(weight.shape, generator=draw) < 0.5
    input_scale = 10 ** torch.empty(8).uniform_(-4, 4, generator=draw) if scaled else torch.ones(8)
    for pruned_before in (weight.masked_fill(~keep, 0), weight):
        fitted = on_grid(pruned_before * input_scale, grid)
        found = Quantized(grid, fitted.codes, fitted.scale, fitted.zero, input_scale if scaled else None)
        back = (found if pruned_before is not weight else found.masked(keep)).dequantize()
        for exact in (back, back.to(grid.scale_dtype)):
            assert not bool(exact[~keep].any())
            assert not bool(torch.signbit(exact[~keep]).any())  # +0.0
        assert bool(torch.isfinite(back).all())
        assert found.codes.dtype == found.zero.dtype == torch.uint8
        assert int(found.codes.max()) <= grid.top
        assert torch.equal(found.scale.to(grid.scale_dtype).float(), found.scale)


@given(weights(), st.sampled_from(BITS), st.sampled_from([0, 2, 4]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_no_weight_is_off_by_more_than_half_a_step(
    weight: torch.Tensor, bits: int, group: int, symmetric: bool
) -> None:
    found = on_grid(weight, QuantizationGrid(bits, group, symmetric))
    steps = found.scale.repeat_interleave(group or 8, dim=1)
    assert bool(((found.dequantize() - weight).abs() <= 0.5 * steps + 1e-6 * weight.abs()).all())


@given(weights(), grids)
@settings(max_examples=150, deadline=None)
def test_what_is_on_the_grid_stays(weight: torch.Tensor, grid: QuantizationGrid) -> None:
    once = on_grid(weight, grid)
    again = quantize(once.dequantize(), once.scale, once.zero.float(), grid)
    assert torch.equal(again.codes, once.codes)


def test_ties_round_to_even() -> None:
    """Steps of 1 from -4 to 11: halves go to the even neighbour."""
    weight = torch.tensor([[-4.0, 11.0, 0.5, 1.5, 2.5, -0.5, -1.5, 10.5]])
    found = on_grid(weight, QuantizationGrid(4))
    assert found.scale.item() == 1
    assert found.zero.item() == 4
    assert found.dequantize().tolist() == [[-4, 11, 0, 2, 2, 0, -2, 10]]


def test_one_sided_groups_use_every_code_from_zero_on() -> None:
    """A range that left 0 out would clip the top of such a group (methods 18.1)."""
    weight = torch.tensor([[7.5, 8.0, 15.0, 9.0], [-7.5, -8.0, -15.0, -9.0]])
    found = on_grid(weight, QuantizationGrid(4))
    assert found.zero.tolist() == [[0], [15]]
    assert found.dequantize().tolist() == [[8, 8, 15, 9], [-8, -8, -15, -9]]


def test_symmetric_grids_have_their_zero_point_in_the_middle() -> None:
    weight = torch.tensor([[-3.0, 7.5, 0.0, 1.0]])
    found = on_grid(weight, QuantizationGrid(4, symmetric=True))
    assert found.scale.item() == 1
    assert found.zero.item() == 8
    assert found.dequantize().tolist() == [[-3, 7, 0, 1]]  # 7.5 would need a 16th code


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_group_of_zeros_gets_the_range_from_minus_to_plus_1(symmetric: bool) -> None:
    scale, zero = from_range(torch.zeros(1), torch.zeros(1), QuantizationGrid(2, symmetric=symmetric))
    assert scale.item() == pytest.approx(2 / 3)
    assert zero.item() == 2


@pytest.mark.parametrize(("size", "stored"), [(1e-9, torch.finfo(torch.float16).tiny), (1e7, 65504.0)])
def test_steps_that_float16_cannot_hold_become_the_nearest_it_can(size: float, stored: float) -> None:
    weight = torch.tensor([[-size, size, 0.0, size / 2]])
    found = on_grid(weight, QuantizationGrid(2, scale_dtype=torch.float16))
    assert found.scale.item() == stored
    assert found.dequantize()[0, 2] == 0
    assert bool(torch.isfinite(found.dequantize()).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_codes_belong_to_the_step_as_it_is_stored(dtype: torch.dtype) -> None:
    weight = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    found = on_grid(weight, QuantizationGrid(8, 0, False, dtype))
    fine = on_grid(weight, QuantizationGrid(8))
    assert not torch.equal(found.scale, fine.scale)
    inside = (found.codes > 0) & (found.codes < 255)
    off = ((found.dequantize() - weight).abs() / found.scale)[inside]
    assert off.max() <= 0.5001


def test_the_input_scale_divides_what_comes_off_the_grid() -> None:
    weight, scale = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)), torch.arange(1.0, 9)
    plain = on_grid(weight, QuantizationGrid(4, 4))
    scaled = Quantized(plain.grid, plain.codes, plain.scale, plain.zero, scale)
    assert torch.equal(scaled.dequantize(), plain.dequantize() / scale)
    keep = weight > 0
    assert torch.equal(scaled.masked(keep).dequantize() != 0, (scaled.dequantize() != 0) & keep)
