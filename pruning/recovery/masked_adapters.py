"""Low-rank adapters that never leave the mask: W_hat = (W + s B A) .* M (methods 19.6).

The product is taken under the mask, and on the grid, in every forward pass, so that merging changes nothing. s = 2, as
alpha / r with alpha = 2 r. A starts uniform within 1 / sqrt(inputs), B at 0, so that training starts at W. An adapter
outside the weight (y = W_hat x + s B A x, as peft has them) would be dense once merged.
"""

import hashlib

import torch

from checkpoints.discovery import LinearRef
from pruning.quantization_grid import Quantized
from pruning.recovery.masked_weights import MaskedWeight

SCALE = 2.0


class MaskedAdapter(MaskedWeight):
    """rank: at most the smaller side. seed: with the layer's name it draws A. weight (rows, cols): what it starts
    from."""

    def __init__(
        self, ref: LinearRef, keep: torch.Tensor, quantized: Quantized | None, weight: torch.Tensor, rank: int,
        seed: int,
    ):  # fmt: skip
        super().__init__(ref, keep, quantized)
        self._base = weight.detach().clone()
        rows, cols = weight.shape
        rank = min(rank, rows, cols)
        a = (2 * torch.rand(rank, cols, generator=generator(seed, ref.layer.name)) - 1) / cols**0.5
        self._a = a.to(weight.device).requires_grad_()  # (rank, cols)
        self._b = torch.zeros(rows, rank, device=weight.device).requires_grad_()  # (rows, rank)
        self.parameters = [self._a, self._b]

    def free(self) -> torch.Tensor:
        return self._base + SCALE * (self._b @ self._a)


def generator(seed: int, name: str) -> torch.Generator:
    """Of the layer `name` alone, whatever else is drawn."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
