"""What methods that decide by the whole model ask of it, a language model (masked_model.py) or another network
(masked_network.py), with all of its weights in memory."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import nn

Kept = Mapping[str, np.ndarray]  # by a group's key (count,) bool; groups that are not named stay whole
Fill = Callable[[str, np.ndarray], torch.Tensor]
Note = Callable[[str, torch.Tensor], None]


class Judge(Protocol):
    """`samples` are token ids (sequences, tokens), or what a network reads (samples, ...)."""

    def losses(self, sets: Sequence[Kept], samples: torch.Tensor, fill: Fill | None = None) -> list[float]:
        """Of every set of units the mean loss of the samples, in float64; NaN or Inf where activations overflow.
        fill(key, stays): R (silent features, features that stay), from which silent ones are filled in as R x; without
        it they are 0."""
        ...

    def apart(self, samples: torch.Tensor, gates: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """How far the outputs are from the unpruned model's where by a group's key units are multiplied by gates
        (count,), a scalar with its graph; 0 where all are 1."""
        ...

    def watch(self, sample: torch.Tensor, note: Note) -> None:
        """Runs the unpruned model on one sample (1, ...), and gives what enters the output of every group, (tokens,
        in), to `note` with the group's key; of experts the tokens that reach one."""
        ...

    def block(self, number: int) -> nn.Module:
        """A block, its weights in memory."""
        ...
