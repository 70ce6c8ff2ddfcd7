"""Runs the units of a network on states (samples, positions, channels), whatever shape they have inside."""

from contextlib import AbstractContextManager
from typing import Any

import torch

from checkpoints.network import Network
from workloads.errors import NotForThisModel, UserError

SAMPLES = "samples"  # what the one tensor of a batch is called


class NetworkWalk:
    """As pruning.forward.walk.Walk. All samples are of the example's shape."""

    causal = False
    starts: list[int]

    def __init__(self, network: Network):
        self.checkpoint = network
        self.blocks = network.blocks
        self.starts = [0]
        self.device = network.device

    def embed(self, batch: Any) -> torch.Tensor:
        """States of a batch {"samples": (samples, ...)}. Raises UserError for samples of another shape."""
        check_samples(self.checkpoint, batch, "samples")
        return packed(batch[SAMPLES].to(self.checkpoint.dtype), self.checkpoint.units[0].channels_first[0])

    def run(self, number: int, hidden: torch.Tensor) -> torch.Tensor:
        unit = self.checkpoint.units[number]
        entering = unpacked(hidden.to(self.device), unit.enters, unit.channels_first[0])
        return packed(self.blocks[number](entering), unit.channels_first[1]).to(hidden.device)

    def advance_all(self, number: int, batches: list[Any], hidden: list[torch.Tensor]) -> list[torch.Tensor]:
        return hidden

    def heads(self) -> AbstractContextManager[None]:
        raise self._no_loss()

    def logits(self, batch: Any, hidden: torch.Tensor) -> torch.Tensor:
        raise self._no_loss()

    def _no_loss(self) -> UserError:
        return NotForThisModel(f"{self.checkpoint.folder} predicts no next token")


def check_samples(network: Network, batch: Any, what: str) -> None:
    """Raises UserError for what is no batch of the network's samples."""
    wanted = tuple(network.example.shape[1:])
    found = tuple(batch[SAMPLES].shape[1:]) if isinstance(batch, dict) and SAMPLES in batch else None
    if found != wanted:
        has = f"samples of {found}" if found else "no array `samples`"
        raise UserError(f"{what}: {network.folder} reads samples of {wanted}, the data has {has}")


def packed(tensor: torch.Tensor, channels_first: bool) -> torch.Tensor:
    """(samples, channels, *sides) or (samples, *sides, channels) as (samples, positions, channels)."""
    if channels_first and tensor.ndim > 2:
        return tensor.flatten(2).transpose(1, 2)
    while tensor.ndim < 3:  # one position, and of a number a sample one channel
        tensor = tensor.unsqueeze(1)
    return tensor.flatten(1, -2)


def unpacked(states: torch.Tensor, shape: tuple[int, ...], channels_first: bool) -> torch.Tensor:
    """The other way round, to the sides of `shape`, of a sample; channels are those that there are. Contiguous, however
    the states lie in memory: kernels round differently by that, and those of a killed run come from disk."""
    if channels_first and len(shape) > 1:
        return states.transpose(1, 2).reshape(len(states), states.shape[2], *shape[1:]).contiguous()
    return states.reshape(len(states), *shape[:-1], states.shape[2]).contiguous()
