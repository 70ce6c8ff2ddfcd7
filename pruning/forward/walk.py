"""How a model is run unit by unit: pruning.forward.blockwise.BlockwiseModel is one."""

from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch

from checkpoints.opened import OpenModel


class Walk(Protocol):
    """States are (samples, positions, channels): of a language model sequences, tokens, hidden. `causal`: no position
    sees a later one, and every one is asked for the next. `starts`: the first unit of every stack."""

    blocks: Any
    device: torch.device
    causal: bool
    starts: list[int]

    @property
    def checkpoint(self) -> OpenModel: ...

    def embed(self, batch: Any) -> torch.Tensor:
        """The states that enter unit 0."""
        ...

    def run(self, number: int, hidden: torch.Tensor) -> torch.Tensor:
        """What a loaded unit makes of states."""
        ...

    def advance_all(self, number: int, batches: list[Any], hidden: list[torch.Tensor]) -> list[torch.Tensor]:
        """What enters unit `number` when the one before it gave `hidden`."""
        ...

    def heads(self) -> AbstractContextManager[None]: ...
    def logits(self, batch: Any, hidden: torch.Tensor) -> torch.Tensor: ...
