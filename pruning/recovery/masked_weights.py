"""The weights that are trained, held under their mask and on their grid (methods 19.6).

The model runs with W_hat, which is what will be stored: zeros where the mask prunes, codes of the bundle's own grid
where it is quantized, rounded to the files' type. Behind it stand float32 numbers, of which the optimizer moves the
surviving ones alone. Rounding is passed straight through by the gradient:

    dLoss/dw = dLoss/dW_hat * M

On a grid, scales and zero points stay; only codes move. Numbers that left the grid's range are set back to its ends
after each step, so that a weight at an end can come back.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch

from checkpoints.discovery import LinearRef
from pruning.block_job import Decision
from pruning.quantization_grid import Quantized, quantize


class MaskedWeight(ABC):
    """One matrix in training: what is trained, and the weight that it makes.

    ref: where it lives. keep (rows, cols) bool. quantized: the grid and the codes it starts from, None for floats.
    `parameters`: the float32 leaves that the optimizer moves. `share`: of a guide, where it has one.
    """

    parameters: list[torch.Tensor]
    share: float = 0.0

    def __init__(self, ref: LinearRef, keep: torch.Tensor, quantized: Quantized | None):
        self.ref, self.keep, self.quantized = ref, keep, quantized

    @abstractmethod
    def free(self) -> torch.Tensor:
        """(rows, cols) float32 with its graph, before mask and grid."""

    def settle(self) -> None:  # noqa: B027
        """After a step of the optimizer."""

    def weight(self) -> torch.Tensor:
        """(rows, cols) float32 with its graph: under the mask, on the grid."""
        free = self.free()
        if self.quantized is not None:
            free = StraightThrough.apply(free, on_grid(free.detach(), self.quantized).masked(self.keep).dequantize())
        return torch.where(self.keep, free, 0.0)

    def receive(self, gradient: torch.Tensor) -> None:
        """Adds to the gradients of `parameters` what dLoss/dW_hat (rows, cols) float32 means for them."""
        self.weight().backward(gradient)

    @torch.no_grad()
    def decision(self) -> Decision:
        """As pruning methods hand over what they made."""
        weight = self.weight()
        on = None if self.quantized is None else on_grid(self.free(), self.quantized).masked(self.keep)
        return Decision(self.keep, weight, on)


class FullWeight(MaskedWeight):
    """Every surviving weight is trained. weight (rows, cols): what it starts from."""

    def __init__(self, ref: LinearRef, keep: torch.Tensor, quantized: Quantized | None, weight: torch.Tensor):
        super().__init__(ref, keep, quantized)
        self._latent = weight.detach().clone().requires_grad_()
        self.parameters = [self._latent]

    def free(self) -> torch.Tensor:
        return self._latent

    @torch.no_grad()
    def settle(self) -> None:
        if self.quantized is not None:
            self._latent.copy_(within(self._latent, self.quantized))


class StraightThrough(torch.autograd.Function):
    """Forwards the second argument, backwards the gradient of the first."""

    @staticmethod
    def forward(ctx: Any, free: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
        return rounded

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return gradients[0], None


def on_grid(weight: torch.Tensor, grid: Quantized) -> Quantized:
    """The nearest codes of a (rows, cols) float32 weight on the grid that `grid` is on."""
    scaled = weight if grid.input_scale is None else weight * grid.input_scale
    made = quantize(scaled, grid.scale, grid.zero.float(), grid.grid)
    return Quantized(grid.grid, made.codes, grid.scale, grid.zero, grid.input_scale)


def within(weight: torch.Tensor, grid: Quantized) -> torch.Tensor:
    """The weight with what lies beyond the grid's ends at these ends."""
    width = grid.grid.width(weight.shape[1])
    low = (-grid.zero.float() * grid.scale).repeat_interleave(width, dim=1)
    high = ((grid.grid.top - grid.zero.float()) * grid.scale).repeat_interleave(width, dim=1)
    if grid.input_scale is not None:
        low, high = low / grid.input_scale, high / grid.input_scale
    return torch.minimum(torch.maximum(weight, low), high)
