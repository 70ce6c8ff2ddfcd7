"""What acts on the weights of a training run between its steps."""

from collections.abc import Mapping, Sequence

import torch

from pruning.recovery.masked_weights import MaskedWeight


class Hook:
    """Called by the loop of a run; everything that it needs later it gives as tensors, which are saved with the run's
    state, so that a killed run goes on to the same bytes."""

    def begin(self, weights: Sequence[MaskedWeight]) -> None:
        """Before the first step of a run, or before it goes on."""

    def after(self, done: int, optimizer: torch.optim.Optimizer) -> None:
        """After `done` steps, the optimizer's last one made and no weight written into the model yet. May set masks
        (`MaskedWeight.keep`), and change the numbers behind the weights and the optimizer's moments of them."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """What it knows, by names of its own."""
        return {}

    def take(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Takes up what `tensors` gave, after `begin`."""
