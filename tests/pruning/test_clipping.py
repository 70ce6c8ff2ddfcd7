"""Learnable clipping: its closed-form gradients against autograd with straight-through rounding on the same formula."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.quantization_grid import BITS, QuantizationGrid, fit, quantize
from pruning.quantizers.clipping import LearnableClipping

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


class Through(torch.autograd.Function):
    """Any rounding forward, identity backward."""

    @staticmethod
    def forward(ctx, value: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
        return rounded.clone()

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient, None


def autograd_quantize(
    weight: torch.Tensor, low_logits: torch.Tensor, high_logits: torch.Tensor, grid: QuantizationGrid
) -> torch.Tensor:
    """methods 18.1 and 18.4 in differentiable operations."""
    groups = weight.reshape(len(weight), -1, grid.group_size or weight.shape[1])
    low = groups.amin(dim=2).clamp_max(0) * low_logits.sigmoid()
    high = groups.amax(dim=2).clamp_min(0) * high_logits.sigmoid()
    if grid.symmetric:
        high = torch.maximum(high, -low)
        low = -high
    empty = low == high
    step = (torch.where(empty, 1.0, high) - torch.where(empty, -1.0, low)) / grid.top
    step = step.clamp_min(torch.finfo(grid.scale_dtype).tiny)
    step = Through.apply(step, step.detach().to(grid.scale_dtype).float())
    zero = torch.full_like(step, 2 ** (grid.bits - 1)) if grid.symmetric else (-low / step).round().clamp(0, grid.top)
    step, zero = step[..., None], zero.detach()[..., None]
    ratio = groups / step
    codes = (Through.apply(ratio, ratio.detach().round()) + zero).clamp(0, grid.top)
    return ((codes - zero) * step).reshape(weight.shape)


def drawn(seed: int, rows: int = 5, cols: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """(weight, gradient); one row each of zeros, of positive and of negative weights."""
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, cols, generator=draw)
    weight[1] = 0
    weight[2:4].abs_()
    weight[3] *= -1
    return weight, torch.randn(rows, cols, generator=draw)


def set_logits(clipping: LearnableClipping, seed: int) -> None:
    """Strengths from 0.27 to 0.99: some weights are clamped."""
    draw = torch.Generator().manual_seed(seed)
    for logits in clipping.parameters():
        logits.data.uniform_(-1, 5, generator=draw)


@given(
    st.sampled_from(BITS), st.sampled_from([0, 2, 4]), st.booleans(), st.sampled_from(DTYPES), st.integers(0, 999),
    st.sampled_from([1.0, 1e-4]),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_gradients_equal_autograds(
    bits: int, group_size: int, symmetric: bool, dtype: torch.dtype, seed: int, size: float
) -> None:
    """Weights of 1e-4 have steps below what float16 can hold: they get no gradient."""
    grid = QuantizationGrid(bits, group_size, symmetric, dtype)
    weight, gradient = drawn(seed)
    weight *= size
    clipping = LearnableClipping(weight, grid)
    set_logits(clipping, seed)
    copies = [logits.detach().clone().requires_grad_() for logits in clipping.parameters()]
    expected = autograd_quantize(weight, *copies, grid)
    expected.backward(gradient)
    assert torch.equal(clipping.quantize().dequantize(), expected.detach())
    clipping.backward(gradient)
    for logits, copy in zip(clipping.parameters(), copies, strict=True):
        torch.testing.assert_close(logits.grad, copy.grad, rtol=1e-3, atol=1e-5 * size)


@pytest.mark.parametrize("symmetric", [False, True])
def test_equal_sides_share_the_gradient(symmetric: bool) -> None:
    """A row whose extremes are -1 and 1, as 16-bit weights often have."""
    weight = torch.tensor([[-1.0, 1.0, 0.3, -0.2]])
    grid, gradient = QuantizationGrid(3, 0, symmetric), torch.tensor([[0.5, 1.0, -2.0, 0.1]])
    clipping = LearnableClipping(weight, grid)
    copies = [logits.detach().clone().requires_grad_() for logits in clipping.parameters()]
    autograd_quantize(weight, *copies, grid).backward(gradient)
    clipping.backward(gradient)
    for logits, copy in zip(clipping.parameters(), copies, strict=True):
        torch.testing.assert_close(logits.grad, copy.grad)
    torch.testing.assert_close(clipping.low_logits.grad, clipping.high_logits.grad)


def test_the_gradient_by_hand() -> None:
    """2 bits, range [0, 3 g] with g = 1/2: h = 1/2, codes of 0.4, 3.0 are round(0.8) = 1 and 6, clamped to 3.
    dQ/dh = 1 - 0.8 and 3; dh/dc = max g (1 - g) / 3 = 1/4."""
    clipping = LearnableClipping(torch.tensor([[0.4, 3.0]]), QuantizationGrid(2))
    clipping.high_logits.data.zero_()
    assert clipping.quantize().dequantize().tolist() == [[0.5, 1.5]]
    clipping.backward(torch.tensor([[10.0, 1.0]]))
    assert clipping.high_logits.grad.item() == pytest.approx((10 * 0.2 + 3) / 4)
    assert clipping.low_logits.grad.item() == 0


def test_gradients_add_up_and_no_graph_is_kept() -> None:
    weight, gradient = drawn(0)
    clipping, once = (
        LearnableClipping(weight, QuantizationGrid(4, 4)),
        LearnableClipping(weight, QuantizationGrid(4, 4)),
    )
    once.backward(gradient)
    clipping.backward(gradient)
    clipping.backward(-3 * gradient)
    for logits, single in zip(clipping.parameters(), once.parameters(), strict=True):
        torch.testing.assert_close(logits.grad, -2 * single.grad)
        assert logits.is_leaf
        assert not logits.grad.requires_grad
    quantized = clipping.quantize()
    assert not quantized.scale.requires_grad
    assert not quantized.dequantize().requires_grad


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", BITS)
def test_strength_1_rounds_to_nearest_and_the_first_is_0_982(bits: int, symmetric: bool, dtype: torch.dtype) -> None:
    weight, _ = drawn(1)
    grid = QuantizationGrid(bits, 4, symmetric, dtype)
    clipping = LearnableClipping(weight, grid)
    first = 1 / (1 + torch.tensor(-4.0).exp())
    scale = fit(weight * first, grid)[0]
    # No wider than a unit in the last place of the stored type.
    torch.testing.assert_close(clipping.quantize().scale, scale, rtol=2 * torch.finfo(dtype).eps, atol=0)
    for logits in clipping.parameters():
        logits.data.fill_(40)
    plain = quantize(weight, *fit(weight, grid), grid)
    found = clipping.quantize()
    assert torch.equal(found.codes, plain.codes)
    assert torch.equal(found.scale, plain.scale)
    assert torch.equal(found.zero, plain.zero)


@given(st.sampled_from(BITS), st.booleans(), st.sampled_from(DTYPES), st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_masked_weights_are_exact_zeros_at_any_strength(
    bits: int, symmetric: bool, dtype: torch.dtype, seed: int
) -> None:
    weight, noise = drawn(seed)
    clipping = LearnableClipping(weight, QuantizationGrid(bits, 2, symmetric, dtype))
    set_logits(clipping, seed)
    back = clipping.quantize().masked(noise > 0).dequantize()
    assert not bool(back[noise <= 0].any())
    assert bool(torch.isfinite(back).all())


def test_training_clips_an_outlier_that_costs_more_than_it_is_worth() -> None:
    """Plain least squares on the weights: 2 bits, 63 weights of about 1 and one of 8; 0 is on every grid."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(1, 64, generator=draw)
    weight[0, 0] = 8.0
    clipping = LearnableClipping(weight, QuantizationGrid(2))
    optimizer = torch.optim.AdamW(clipping.parameters(), lr=0.05, weight_decay=0)
    start = (clipping.quantize().dequantize() - weight).square().sum()
    for _ in range(200):
        optimizer.zero_grad()
        clipping.backward(2 * (clipping.quantize().dequantize() - weight))
        optimizer.step()
    assert (clipping.quantize().dequantize() - weight).square().sum() < 0.9 * start
    assert clipping.high_logits.item() < 2
