"""The grid of quantized weights: fit it, put weights on it, take them off it (methods 18.1).

Uniform affine, b bits, one scale and one zero point for every `group_size` consecutive inputs of a row:
    asymmetric  scale = (max - min) / (2^b - 1), zero = round(-min / scale), q = clamp(round(w / scale) + zero, 0, 2^b -
                1)
    symmetric   scale = 2 max|w| / (2^b - 1),    zero = 2^(b-1)
    w_hat = scale * (q - zero)
The range always holds 0 and zero points are whole numbers within the codes, so 0 stays exactly 0: a pruned weight has
the code of its zero point. Scales are rounded to the type they are stored in before any code is computed. Ties round to
even.
"""

from dataclasses import dataclass, replace

import torch

BITS = range(2, 9)


@dataclass(frozen=True)
class QuantizationGrid:
    """How the weights of one matrix are quantized; group_size 0 = one group a row. `scale_dtype` is the stored type."""

    bits: int
    group_size: int = 0
    symmetric: bool = False
    scale_dtype: torch.dtype = torch.float32

    @property
    def top(self) -> int:
        """The highest code."""
        return (1 << self.bits) - 1

    def width(self, cols: int) -> int:
        """Inputs a group."""
        return self.group_size or cols


@dataclass(frozen=True)
class Quantized:
    """Weights on a grid. codes (rows, cols) uint8; scale (rows, groups) float32, representable in grid.scale_dtype;
    zero (rows, groups) uint8. Where AWQ scaled the inputs, `input_scale` (cols,) float32 divides the weights taken off
    the grid."""

    grid: QuantizationGrid
    codes: torch.Tensor
    scale: torch.Tensor
    zero: torch.Tensor
    input_scale: torch.Tensor | None = None

    def dequantize(self) -> torch.Tensor:
        """(rows, cols) float32."""
        width = self.grid.width(self.codes.shape[1])
        grouped = self.codes.reshape(len(self.codes), -1, width).float() - self.zero[..., None].float()
        weight = (grouped * self.scale[..., None]).reshape(self.codes.shape)
        return weight if self.input_scale is None else weight / self.input_scale

    def masked(self, keep: torch.Tensor) -> "Quantized":
        """The same with pruned weights at exactly 0: their codes become their zero points."""
        width = self.grid.width(self.codes.shape[1])
        return replace(self, codes=torch.where(keep, self.codes, self.zero.repeat_interleave(width, dim=1)))


def fit(weight: torch.Tensor, grid: QuantizationGrid) -> tuple[torch.Tensor, torch.Tensor]:
    """(scale, zero), each (rows, groups) float32, of a (rows, cols) float32 weight by its extremes."""
    groups = weight.reshape(len(weight), -1, grid.width(weight.shape[1]))
    return from_range(groups.amin(dim=2), groups.amax(dim=2), grid)


def from_range(low: torch.Tensor, high: torch.Tensor, grid: QuantizationGrid) -> tuple[torch.Tensor, torch.Tensor]:
    """(scale, zero) for ranges of any shape; 0 is taken into the range; a range of nothing but 0 becomes [-1, 1]."""
    low, high = low.clamp_max(0), high.clamp_min(0)
    if grid.symmetric:
        high = torch.maximum(high, -low)
        low = -high
    empty = low == high
    low, high = torch.where(empty, -1.0, low), torch.where(empty, 1.0, high)
    scale = (high - low) / grid.top
    # The stored type may not hold so small or so large a number (float16): its nearest normal one takes its place.
    stored = torch.finfo(grid.scale_dtype)
    scale = scale.clamp(stored.tiny, stored.max).to(grid.scale_dtype).float()
    zero = torch.full_like(scale, (grid.top + 1) // 2) if grid.symmetric else (-low / scale).round().clamp(0, grid.top)
    return scale, zero


def quantize(weight: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, grid: QuantizationGrid) -> Quantized:
    """Every weight to its nearest code."""
    groups = weight.reshape(len(weight), -1, grid.width(weight.shape[1]))
    codes = ((groups / scale[..., None]).round() + zero[..., None]).clamp(0, grid.top)
    return Quantized(grid, codes.to(torch.uint8).reshape(weight.shape), scale, zero.to(torch.uint8))
