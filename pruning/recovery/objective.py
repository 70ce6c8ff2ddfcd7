"""What training lowers, whatever is trained."""

from abc import ABC, abstractmethod

import torch

Batch = tuple[torch.Tensor, ...]  # (samples, ...) each: token ids and labels, or what a network reads


class Objective(ABC):
    """Sums over what counts in a batch; the trainer divides by how much that is, so that the pieces of a batch add up
    to it."""

    @abstractmethod
    def count(self, batch: Batch) -> int:
        """Tokens or samples whose losses are summed."""

    @abstractmethod
    def at_once(self, device: torch.device, batch: Batch) -> int:
        """Samples in a piece of a batch."""

    @abstractmethod
    def own_loss(self, piece: Batch) -> torch.Tensor:
        """The sum that looks at held-out data report, float32 scalar."""

    @abstractmethod
    def __call__(self, piece: Batch) -> torch.Tensor:
        """The sum that is lowered, float32 scalar with its graph."""

    def close(self) -> None:  # noqa: B027
        """Takes back what it put into the model."""
