"""Learnable clipping of a weight's range (methods 18.4), as LWC and BESA's joint quantization (methods 4.8) train it.

The grid of each group spans [sigmoid(c_low) min, sigmoid(c_high) max]. Gradients are closed forms: no graph of the
size of a weight is kept. With step h, whole zero point z, codes q = clamp(round(W / h) + z, 0, 2^b - 1) and
Q = (q - z) h:

    dQ/dh = q - z - W / h  within the codes (rounding is passed straight through),  q - z  where clamped
    asymmetric  h = (g1 max - g0 min) / (2^b - 1)                g0, g1 = sigmoid(c_low), sigmoid(c_high)
    symmetric   h = 2 max(g1 max, -g0 min) / (2^b - 1)           the larger side gets the gradient, equal ones half each

The zero point is not differentiated: h carries the gradient. Rounding h to its stored type is passed straight
through.
"""

import torch
from torch import nn

from pruning.quantization_grid import QuantizationGrid, Quantized, from_range, quantize

FIRST_LOGIT = 4.0  # sigmoid: 0.982


class LearnableClipping:
    """The clipping of one weight; `low_logits` and `high_logits` (rows, groups) are what is trained."""

    def __init__(self, weight: torch.Tensor, grid: QuantizationGrid):
        """weight (rows, cols) float32; it is kept, never written."""
        self.weight = weight
        self.grid = grid
        groups = self._grouped(weight)
        self._low, self._high = groups.amin(dim=2).clamp_max(0), groups.amax(dim=2).clamp_min(0)
        self.low_logits = nn.Parameter(torch.full_like(self._low, FIRST_LOGIT))
        self.high_logits = nn.Parameter(torch.full_like(self._high, FIRST_LOGIT))

    def parameters(self) -> list[nn.Parameter]:
        return [self.low_logits, self.high_logits]

    def quantize(self) -> Quantized:
        """The weight on the grid of its clipped ranges."""
        scale, zero = from_range(*self._range(), self.grid)
        return quantize(self.weight, scale, zero, self.grid)

    def backward(self, gradient: torch.Tensor) -> None:
        """Adds to the logits' .grad, given dLoss/dQ (rows, cols), 0 where a mask lies over Q."""
        low, high = self._range()
        scale, zero = from_range(low, high, self.grid)
        steps = self._grouped(self.weight) / scale[..., None]
        codes = steps.round() + zero[..., None]
        clamped = codes.clamp(0, self.grid.top)
        slope = (clamped - zero[..., None]).sub_(steps.mul_(codes == clamped))  # dQ/dh
        by_scale = slope.mul_(self._grouped(gradient)).sum(dim=2)  # dLoss/dh (rows, groups)
        if self.grid.symmetric:
            share = (1 + (high + low).sign()) / 2  # of the upper side
            by_high, by_low = 2 * share * by_scale, 2 * (share - 1) * by_scale
            span = 2 * torch.maximum(high, -low)
        else:
            by_high, by_low = by_scale, -by_scale
            span = high - low
        # A step at the smallest number of its stored type does not move.
        moves = (span / self.grid.top >= torch.finfo(self.grid.scale_dtype).tiny) / self.grid.top
        for logits, extreme, by in ((self.low_logits, self._low, by_low), (self.high_logits, self._high, by_high)):
            strength = logits.detach().sigmoid()
            own = by * moves * extreme * strength * (1 - strength)
            logits.grad = own if logits.grad is None else logits.grad + own

    def _range(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(lowest, highest) of every group after clipping, each (rows, groups)."""
        return self._low * self.low_logits.detach().sigmoid(), self._high * self.high_logits.detach().sigmoid()

    def _grouped(self, matrix: torch.Tensor) -> torch.Tensor:
        return matrix.reshape(len(matrix), -1, self.grid.width(matrix.shape[1]))
